//! Certificates for tests: an authority, a server on the loopback, a client, and a client that no authority knows.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

/// Makes `ca.pem`, and `server`, `client` and `stranger`, each with a `.pem` and a `.key`, in `folder`.
///
/// # Errors
/// When `openssl` is not installed or fails.
pub fn make(folder: &Path) -> Result<()> {
    let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
    let self_signed = |name: &str| {
        let (pem, private) = (format!("{name}.pem"), format!("{name}.key"));
        let subject = format!("/CN=foreline test {name}");
        let own =
            ["req", "-x509", "-days", "2", "-subj", &subject, "-keyout", &private, "-out", &pem];
        openssl(folder, &[&own[..], &key[..]].concat())
    };
    self_signed("ca")?;
    self_signed("stranger")?;
    for name in ["server", "client"] {
        let (request, private) = (format!("{name}.csr"), format!("{name}.key"));
        let subject = format!("/CN=foreline test {name}");
        let own = ["req", "-subj", &subject, "-keyout", &private, "-out", &request];
        openssl(folder, &[&own[..], &key[..]].concat())?;
        let extensions = folder.join("extensions");
        std::fs::write(&extensions, "subjectAltName=IP:127.0.0.1,DNS:localhost\n")?;
        let pem = format!("{name}.pem");
        openssl(
            folder,
            &[
                "x509",
                "-req",
                "-days",
                "2",
                "-in",
                &request,
                "-CA",
                "ca.pem",
                "-CAkey",
                "ca.key",
                "-CAcreateserial",
                "-extfile",
                "extensions",
                "-out",
                &pem,
            ],
        )?;
    }
    Ok(())
}

fn openssl(folder: &Path, arguments: &[&str]) -> Result<()> {
    let output = Command::new("openssl")
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .context("openssl does not start; on Debian: apt-get install openssl")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "openssl ended with {}: {said}", output.status);
    Ok(())
}
