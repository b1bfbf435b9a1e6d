//! `foreline model pack`, `show`, `key` and `sign`: a model in one file.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use clap::Args;
use foreline_plugins::author::{Subject, wrap};
use foreline_plugins::digest;
use foreline_plugins::pack::{self, ModelFile};
use serde_json::{Value, json};

use super::{text_of, unusable};
use crate::failure::{Failure, Outcome};
use crate::train::card::{WEIGHTS_KEY, card_of};
use crate::train::write_whole;

/// What a card must say, whatever else it says.
const CARD_KEYS: [&str; 5] = ["data", "features", "metrics", "date", "commit"];

/// What `foreline model pack` takes.
#[derive(Debug, Args)]
pub(super) struct PackArguments {
    /// The plugin: a component, a core module, or one of ours such as `builtin:forest`.
    plugin: String,
    /// The weights; none where they are compiled in.
    #[arg(long, short)]
    weights: Option<PathBuf>,
    /// What the model is, as YAML: data, features, metrics, date, commit, and whatever else is worth knowing. Default: the card
    /// that `foreline train` wrote beside the weights.
    #[arg(long)]
    card: Option<PathBuf>,
    /// The file to write.
    #[arg(long, short)]
    out: PathBuf,
}

/// What `foreline model show` takes.
#[derive(Debug, Args)]
pub(super) struct ShowArguments {
    /// The file.
    file: PathBuf,
    /// Write the parts into this folder: plugin.wasm, weights, card.yaml.
    #[arg(long)]
    extract: Option<PathBuf>,
    /// Print as JSON.
    #[arg(long)]
    json: bool,
}

/// What `foreline model key` takes.
#[derive(Debug, Args)]
pub(super) struct KeyArguments {
    /// The name that signatures by the key will have.
    name: String,
    /// Where NAME.key (to be kept secret) and NAME.pem (for the pipeline's `keys` folder) are written.
    #[arg(long, default_value = ".")]
    dir: PathBuf,
}

/// What `foreline model sign` takes.
#[derive(Debug, Args)]
pub(super) struct SignArguments {
    /// The plugin, packed or not.
    file: PathBuf,
    /// The name that the signature has: pipelines ask for it with `signed_by`.
    #[arg(long)]
    name: String,
    /// The private key: PEM, as `foreline model key` or `openssl genpkey -algorithm ed25519` writes it.
    #[arg(long)]
    key: PathBuf,
    /// The file to write; default: the file itself.
    #[arg(long, short)]
    out: Option<PathBuf>,
}

/// Puts a model into one file.
#[expect(clippy::print_stdout, reason = "the digest is what the command ends with")]
pub(super) fn pack(arguments: &PackArguments) -> Outcome {
    let weights = arguments.weights.as_deref();
    let beside = || weights.map(card_of).filter(|path| path.exists());
    let Some(path) = arguments.card.clone().or_else(beside) else {
        let error = anyhow!("a model is packed with its card: give it with --card");
        return Err(Failure::Unreadable(error));
    };
    let card = text_of(&path)?;
    let subject = Subject::read(&arguments.plugin, weights, Default::default(), Path::new(""))
        .map_err(unusable)?;
    let component = wrap(&subject.plugin).map_err(unusable)?.0;
    let is_packed = !arguments.plugin.starts_with("builtin:")
        && ModelFile::read(Path::new(&arguments.plugin)).is_ok_and(|file| file.is_packed());
    if is_packed {
        let error = anyhow::Error::from(pack::PackError::AlreadyPacked);
        return Err(Failure::Unreadable(error));
    }
    check_card(&card, &subject.weights)
        .map_err(|e| Failure::Unreadable(anyhow!("'{}': {e}", path.display())))?;
    let weights = (!subject.weights.is_empty()).then_some(&subject.weights[..]);
    let packed =
        pack::pack(&component, weights, &card).map_err(|e| Failure::Unreadable(e.into()))?;
    write_whole(&arguments.out, &packed)?;
    println!("packed '{}', sha256: \"{}\"", arguments.out.display(), digest(&packed));
    Ok(())
}

/// Whether a card says what a card must, and is of these weights where it says of which.
fn check_card(card: &str, weights: &[u8]) -> Result<(), String> {
    let values = foreline_spec::read_values(card)?;
    let Value::Object(values) = values else { return Err("a card is a block of keys".to_owned()) };
    if let Some(of) = values.get(WEIGHTS_KEY).and_then(Value::as_str)
        && of != digest(weights)
    {
        return Err("it is the card of other weights; train them again, or give --card".to_owned());
    }
    match CARD_KEYS.iter().find(|key| values.get(**key).is_none_or(Value::is_null)) {
        None => Ok(()),
        Some(key) => {
            Err(format!("the card does not say '{key}'; it needs {}", CARD_KEYS.join(", ")))
        }
    }
}

/// Says what is in a file.
#[expect(clippy::print_stdout, reason = "this is what the command is for")]
pub(super) fn show(arguments: &ShowArguments) -> Outcome {
    let file = ModelFile::read(&arguments.file).map_err(|e| Failure::Unreadable(e.into()))?;
    let signers: Vec<&str> = file.signers().collect();
    if arguments.json {
        let card = file.card().and_then(|card| foreline_spec::read_values(card).ok());
        let all = json!({
            "bytes": file.bytes().len(),
            "sha256": digest(file.bytes()),
            "plugin": { "bytes": file.component().len(), "sha256": digest(file.component()) },
            "weights": file.weights().map(|w| json!({ "bytes": w.len(), "sha256": digest(w) })),
            "card": card,
            "signatures": signers,
        });
        println!("{all:#}");
    } else {
        let line = |what: &str, bytes: &[u8]| {
            println!("{what:<9} {:>11} bytes, sha256 {}", bytes.len(), digest(bytes));
        };
        line("file", file.bytes());
        line("plugin", file.component());
        match file.weights() {
            Some(weights) => line("weights", weights),
            None => println!("weights   none"),
        }
        match signers.as_slice() {
            [] => println!("signed    by nobody"),
            signers => {
                println!("signed    in the name of {}, not checked here", signers.join(", "))
            }
        }
        print!("{}", file.card().unwrap_or_default());
    }
    if let Some(folder) = &arguments.extract {
        write_whole(&folder.join("plugin.wasm"), file.component())?;
        if let Some(weights) = file.weights() {
            write_whole(&folder.join("weights"), weights)?;
        }
        if let Some(card) = file.card() {
            write_whole(&folder.join("card.yaml"), card.as_bytes())?;
        }
    }
    Ok(())
}

/// Makes a key.
#[expect(clippy::print_stdout, reason = "what was written is said")]
pub(super) fn key(arguments: &KeyArguments) -> Outcome {
    pack::check_signer(&arguments.name).map_err(anyhow::Error::from)?;
    let key = pack::new_key().map_err(anyhow::Error::from)?;
    let file = |ending: &str| arguments.dir.join(format!("{}.{ending}", arguments.name));
    let (private, public) = (file("key"), file("pem"));
    fs::create_dir_all(&arguments.dir)?;
    // A key that is overwritten cannot sign again what it signed.
    let what = |path: &Path| format!("write '{}', which must not be there yet", path.display());
    new_file(&private, true, &key.private_pem).with_context(|| what(&private))?;
    new_file(&public, false, &key.public_pem).with_context(|| what(&public))?;
    println!("wrote '{}', to be kept secret, and '{}'", private.display(), public.display());
    Ok(())
}

/// Writes a file that must not be there; `secret`: for its owner alone.
fn new_file(path: &Path, secret: bool, text: &str) -> std::io::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    if secret {
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    }
    let mut file = options.open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// Signs a file.
#[expect(clippy::print_stdout, reason = "the digest is what the command ends with")]
pub(super) fn sign(arguments: &SignArguments) -> Outcome {
    let key = text_of(&arguments.key)?;
    let file = ModelFile::read(&arguments.file).map_err(|e| Failure::Unreadable(e.into()))?;
    let signed = pack::sign(file.bytes(), &arguments.name, &key)
        .map_err(|e| Failure::Unreadable(e.into()))?;
    let out = arguments.out.as_ref().unwrap_or(&arguments.file);
    write_whole(out, &signed)?;
    println!("signed '{}' as '{}', sha256: \"{}\"", out.display(), arguments.name, digest(&signed));
    Ok(())
}
