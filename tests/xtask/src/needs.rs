//! What the tests need on the machine, and how it gets there.

use std::process::{Command, Stdio};

use anyhow::{Result, bail};

/// Something that must be there before the tests can run.
struct Need {
    /// What it is, for the message.
    what: &'static str,
    /// A command that succeeds when it is there.
    probe: &'static [&'static str],
    /// A command that installs it.
    install: &'static [&'static str],
    /// Whether installing takes the rights of root.
    root: bool,
    /// What is not looked at without it; nothing where there are no tests without it.
    skipped: Option<&'static str>,
}

/// What is left out where there is no moto.
const SECOND_S3: &str = "the tests of S3 against a second store (moto_server)";
/// What is left out where there is no MLflow.
const TRACKING: &str = "the test against a real MLflow server";
/// What is left out where there is no psycopg.
const DRIVER: &str = "the PostgreSQL wire asked by a driver of Python";

/// What is left out where there is no browser.
const BROWSER: &str = "the dashboard in a browser (chromium, node)";
/// What is left out where there is no schemathesis.
const ASKED_AT_RANDOM: &str = "the test of the API against its own document (schemathesis)";

/// What is left out where nothing builds for WebAssembly.
const NETWORKS: &str = "the tests of neural networks in the sandbox";

/// Everything, in the order in which it is installed.
const NEEDS: &[Need] = &[
    Need {
        what: "a C compiler",
        probe: &["cc", "--version"],
        install: &["apt-get", "install", "--yes", "--no-install-recommends", "gcc", "libc6-dev"],
        root: true,
        skipped: None,
    },
    Need {
        what: "git",
        probe: &["git", "--version"],
        install: &["apt-get", "install", "--yes", "--no-install-recommends", "git"],
        root: true,
        skipped: None,
    },
    Need {
        what: "mosquitto",
        probe: &[
            "sh",
            "-c",
            "PATH=$PATH:/usr/sbin; command -v mosquitto && command -v mosquitto_passwd && command -v openssl",
        ],
        // The tests start their own; the service of the package stays off.
        install: &[
            "sh",
            "-c",
            "policy=/usr/sbin/policy-rc.d; test -e $policy || { printf '#!/bin/sh\\nexit 101\\n' > $policy; \
             chmod +x $policy; made=yes; }; \
             apt-get install --yes --no-install-recommends mosquitto openssl; done=$?; \
             test -z \"$made\" || rm $policy; exit $done",
        ],
        root: true,
        skipped: None,
    },
    Need {
        what: "rustfmt",
        probe: &["cargo", "fmt", "--version"],
        install: &["rustup", "component", "add", "rustfmt"],
        root: false,
        skipped: None,
    },
    Need {
        what: "clippy",
        probe: &["cargo", "clippy", "--version"],
        install: &["rustup", "component", "add", "clippy"],
        root: false,
        skipped: None,
    },
    Need {
        what: "PostgreSQL",
        probe: &["sh", "-c", "ls /usr/lib/postgresql/*/bin/initdb || command -v initdb"],
        // Without a cluster of its own: the tests make theirs.
        install: &[
            "sh",
            "-c",
            "apt-get install --yes --no-install-recommends postgresql-common && \
             echo create_main_cluster=false >> /etc/postgresql-common/createcluster.conf && \
             apt-get install --yes --no-install-recommends postgresql",
        ],
        root: true,
        skipped: None,
    },
    Need {
        what: "python3-venv",
        probe: &["python3", "-c", "import ensurepip, venv"],
        install: &["apt-get", "install", "--yes", "--no-install-recommends", "python3-venv"],
        root: true,
        skipped: Some(SECOND_S3),
    },
    Need {
        what: "moto_server",
        probe: &[
            "sh",
            "-c",
            "\"${XDG_CACHE_HOME:-$HOME/.cache}/foreline-moto/bin/python\" -c \"import moto.server, moto; \
             assert moto.__version__ == '5.2.5'\"",
        ],
        // In a folder of its own, where the tests look for it. Its extra `server` brings all of AWS; this is what S3 takes.
        install: &[
            "sh",
            "-c",
            "at=\"${XDG_CACHE_HOME:-$HOME/.cache}/foreline-moto\"; python3 -m venv --clear \"$at\" && \
             timeout 900 \"$at/bin/pip\" install --quiet moto[s3]==5.2.5 flask==3.1.3 flask-cors==6.0.5",
        ],
        root: false,
        skipped: Some(SECOND_S3),
    },
    Need {
        what: "mlflow",
        probe: &[
            "sh",
            "-c",
            "\"${XDG_CACHE_HOME:-$HOME/.cache}/foreline-mlflow/bin/python\" -c \"from importlib.metadata import version; \
             assert version('mlflow') == '3.17.2'\"",
        ],
        install: &[
            "sh",
            "-c",
            "at=\"${XDG_CACHE_HOME:-$HOME/.cache}/foreline-mlflow\"; python3 -m venv --clear \"$at\" && \
             timeout 900 \"$at/bin/pip\" install --quiet mlflow==3.17.2",
        ],
        root: false,
        skipped: Some(TRACKING),
    },
    Need {
        what: "psycopg",
        probe: &[
            "sh",
            "-c",
            "\"${XDG_CACHE_HOME:-$HOME/.cache}/foreline-psycopg/bin/python\" -c \"import psycopg; \
             assert psycopg.__version__ == '3.3.9'\"",
        ],
        install: &[
            "sh",
            "-c",
            "at=\"${XDG_CACHE_HOME:-$HOME/.cache}/foreline-psycopg\"; python3 -m venv --clear \"$at\" && \
             timeout 900 \"$at/bin/pip\" install --quiet 'psycopg[binary]==3.3.9'",
        ],
        root: false,
        skipped: Some(DRIVER),
    },
    Need {
        what: "schemathesis",
        probe: &[
            "sh",
            "-c",
            "\"${XDG_CACHE_HOME:-$HOME/.cache}/foreline-schemathesis/bin/python\" -c \"from importlib.metadata import version; \
             assert version('schemathesis') == '4.32.5'\"",
        ],
        install: &[
            "sh",
            "-c",
            "at=\"${XDG_CACHE_HOME:-$HOME/.cache}/foreline-schemathesis\"; python3 -m venv --clear \"$at\" && \
             timeout 900 \"$at/bin/pip\" install --quiet schemathesis==4.32.5",
        ],
        root: false,
        skipped: Some(ASKED_AT_RANDOM),
    },
    Need {
        what: "chromium and node",
        probe: &["sh", "-c", "test -x /usr/bin/chromium && node --version && npm --version"],
        install: &[
            "sh",
            "-c",
            "test -x /usr/bin/chromium || apt-get install --yes --no-install-recommends chromium; \
             node --version && npm --version || apt-get install --yes --no-install-recommends nodejs npm",
        ],
        root: true,
        skipped: Some(BROWSER),
    },
    Need {
        what: "playwright-core and axe-core",
        probe: &[
            "sh",
            "-c",
            "at=\"${XDG_CACHE_HOME:-$HOME/.cache}/foreline-browser/node_modules\"; \
             grep -q '\"version\": \"1.64.1\"' \"$at/playwright-core/package.json\" && \
             grep -q '\"version\": \"4.14.1\"' \"$at/axe-core/package.json\"",
        ],
        install: &[
            "sh",
            "-c",
            "at=\"${XDG_CACHE_HOME:-$HOME/.cache}/foreline-browser\"; mkdir -p \"$at\" && cd \"$at\" && \
             timeout 600 npm install --no-audit --no-fund --prefix . playwright-core@1.64.1 axe-core@4.14.1",
        ],
        root: false,
        skipped: Some(BROWSER),
    },
    Need {
        what: "a compiler for wasm32",
        probe: &["sh", "-c", WASM32],
        // Where rustup cannot download, root on Debian has another.
        install: &[
            "sh",
            "-c",
            "rustup target add wasm32-unknown-unknown || \
             { test \"$(id -u)\" = 0 && apt-get update && \
             apt-get install --yes --no-install-recommends rustc-web cargo-web rust-web-src; }",
        ],
        root: false,
        skipped: Some(NETWORKS),
    },
];

/// Whether one of the toolchains is there that `plugins.rs` knows.
pub(crate) const WASM32: &str = "test -d \"$(rustc --print sysroot)/lib/rustlib/wasm32-unknown-unknown/lib\" || \
     { test -x /usr/bin/rustc && test -x /usr/bin/cargo && test -d /usr/lib/rustlib/src/rust/library; }";

/// Installs what is missing; what is left out for want of something that could not be installed.
///
/// # Errors
/// When something is missing that there are no tests without; all of it is named, with the commands that would do it.
pub(crate) fn meet() -> Result<Vec<&'static str>> {
    let mut missing = Vec::new();
    let mut left_out = Vec::new();
    let mut updated = false;
    for need in NEEDS.iter().filter(|need| !succeeds(need.probe)) {
        if need.root && is_root() {
            if !updated {
                // An image without package lists is common; where this fails, so does the installation.
                succeeds(&["apt-get", "update"]);
                updated = true;
            }
            run_shown(need.install);
        } else if !need.root {
            run_shown(need.install);
        }
        match need.skipped {
            _ if succeeds(need.probe) => {}
            None => missing.push(need),
            Some(skipped) => left_out.push(skipped),
        }
    }
    left_out.dedup();
    if missing.is_empty() { Ok(left_out) } else { bail!(message(&missing)) }
}

fn message(missing: &[&Need]) -> String {
    let mut text = String::from("the tests need what is missing here and could not be installed:");
    for need in missing {
        let sudo = if need.root { "sudo " } else { "" };
        let words = need.install.iter().map(|word| match word.contains(' ') {
            true => format!("'{word}'"),
            false => (*word).to_owned(),
        });
        let command = words.collect::<Vec<_>>().join(" ");
        text.push_str(&format!("\n  {}: {sudo}{command}", need.what));
    }
    text
}

/// Whether a command can be started and succeeds.
pub(crate) fn succeeds(command: &[&str]) -> bool {
    let mut process = Command::new(command[0]);
    process.args(&command[1..]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    process.status().is_ok_and(|status| status.success())
}

/// Whether it works shows in the next probe.
fn run_shown(command: &[&str]) {
    let mut process = Command::new(command[0]);
    process.args(&command[1..]).env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null());
    let _ = process.status();
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output();
    id.is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_tells_what_is_there_from_what_is_not() {
        assert!(succeeds(&["cargo", "--version"]));
        assert!(!succeeds(&["cargo", "no-such-command"]));
        assert!(!succeeds(&["no-such-program-anywhere"]));
    }

    #[test]
    fn the_message_names_everything_and_the_commands() {
        let text = message(&NEEDS.iter().collect::<Vec<_>>());
        for need in NEEDS {
            assert!(text.contains(need.what), "{text}");
        }
        assert!(text.contains("sudo apt-get install --yes --no-install-recommends git"), "{text}");
        assert!(text.contains(" rustup component add clippy"), "{text}");
        assert!(!text.contains("sudo rustup"), "{text}");
    }
}
