//! `foreline user` and `foreline token`: who may use the API of a pipeline.
//!
//! What a reader would get wrong: they change the file in the data directory, whether or not the pipeline runs; a server that runs
//! sees it with the next request.

use std::io::{IsTerminal as _, Read as _};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, anyhow, bail};
use clap::{Args, Subcommand};
use foreline_server::accounts::{
    Audit, INVITATION_TIME, Invitation, PASSWORD_BYTES_MAX, Role, Scope, Store, check_name,
    check_password, digest, hash, seconds, secret,
};

use crate::commands::Format;
use crate::failure::Outcome;
use crate::session::{Purpose, load};
use crate::table::Table;

/// What `foreline user` takes.
#[derive(Debug, Args)]
pub struct Users {
    #[command(subcommand)]
    task: UserTask,
}

/// What `foreline token` takes.
#[derive(Debug, Args)]
pub struct Tokens {
    #[command(subcommand)]
    task: TokenTask,
}

/// The pipeline whose accounts these are.
#[derive(Debug, Args)]
struct Whose {
    /// The pipeline file, or its data directory such as `.foreline/pump-rul`.
    pipeline: PathBuf,
}

/// Where a password comes from.
#[derive(Debug, Args)]
struct Secret {
    /// Read the password from standard input, up to the end of the first line; otherwise it is asked for.
    #[arg(long)]
    password_stdin: bool,
}

#[derive(Debug, Subcommand)]
enum UserTask {
    /// Makes a user.
    Add {
        #[command(flatten)]
        whose: Whose,
        name: String,
        /// viewer reads; operator also acknowledges alerts; engineer also sends rows and swaps models; admin also makes users.
        #[arg(long, default_value = "viewer")]
        role: Role,
        #[command(flatten)]
        secret: Secret,
    },
    /// Makes a code with which somebody signs up themselves, once, within seven days.
    Invite {
        #[command(flatten)]
        whose: Whose,
        #[arg(long, default_value = "viewer")]
        role: Role,
    },
    /// Lists the users.
    List {
        #[command(flatten)]
        whose: Whose,
        /// Print them as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Changes what a user may do.
    Role {
        #[command(flatten)]
        whose: Whose,
        name: String,
        role: Role,
    },
    /// Changes a user's password.
    Password {
        #[command(flatten)]
        whose: Whose,
        name: String,
        #[command(flatten)]
        secret: Secret,
    },
    /// Switches an account off.
    Disable {
        #[command(flatten)]
        whose: Whose,
        name: String,
    },
    /// Switches it on again.
    Enable {
        #[command(flatten)]
        whose: Whose,
        name: String,
    },
}

#[derive(Debug, Subcommand)]
enum TokenTask {
    /// Makes a token for a program, and shows it this once.
    Create {
        #[command(flatten)]
        whose: Whose,
        /// What it is for.
        name: String,
        /// What it may do: read, ack, write, swap, admin. Several with commas.
        #[arg(long, value_delimiter = ',', default_value = "read")]
        scope: Vec<Scope>,
        /// When it ends, in days; never unless given.
        #[arg(long, value_name = "DAYS", value_parser = days)]
        expires: Option<Duration>,
    },
    /// Lists the tokens, without what they are.
    List {
        #[command(flatten)]
        whose: Whose,
        /// Print them as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Ends a token.
    Revoke {
        #[command(flatten)]
        whose: Whose,
        /// Its id, as `list` shows it.
        id: String,
    },
}

/// `90d` or `90`.
fn days(text: &str) -> Result<Duration, String> {
    let number = text.strip_suffix('d').unwrap_or(text).parse::<u64>();
    let days = number.ok().filter(|days| (1..=36_500).contains(days));
    let days = days.ok_or("give a number of days from 1 to 36500, such as 90d")?;
    Ok(Duration::from_secs(days * 24 * 3600))
}

/// The accounts of a pipeline, and the log of their changes.
struct Book {
    store: Store,
    audit: Audit,
}

impl Whose {
    fn book(&self) -> Result<Book, crate::failure::Failure> {
        let data_dir = match self.pipeline.is_dir() {
            true => self.pipeline.clone(),
            false => {
                let purpose = Purpose { checking: true, ..Purpose::default() };
                load(&self.pipeline, Format::Text, purpose)?.data_dir
            }
        };
        Ok(Book { store: Store::new(&data_dir), audit: Audit::new(&data_dir) })
    }
}

impl Book {
    /// Changes the file, and writes down what was done.
    fn change<T>(
        &self,
        what: &str,
        object: &str,
        change: impl FnOnce(&mut foreline_server::accounts::Book) -> Result<T, String>,
    ) -> anyhow::Result<T> {
        let made = self.store.change(change);
        let outcome = made.as_ref().err().map_or("done".to_owned(), ToString::to_string);
        let who = format!("cli:{}", std::env::var("USER").unwrap_or_default());
        self.audit.write(&who, "", what, object, &outcome).context("the audit log")?;
        Ok(made?)
    }
}

impl Secret {
    /// The password, which is never part of the command line.
    fn read(&self) -> anyhow::Result<String> {
        let password = if self.password_stdin {
            let mut text = String::new();
            let most = PASSWORD_BYTES_MAX as u64 + 2;
            std::io::stdin().take(most).read_to_string(&mut text).context("standard input")?;
            text.lines().next().unwrap_or_default().to_owned()
        } else if std::io::stdin().is_terminal() {
            let password = rpassword::prompt_password("password: ")?;
            if rpassword::prompt_password("once more: ")? != password {
                bail!("they differ");
            }
            password
        } else {
            bail!("there is no terminal to ask for the password: give --password-stdin");
        };
        check_password(&password).map_err(|e| anyhow!(e))?;
        Ok(password)
    }
}

/// Makes and changes users.
///
/// # Errors
/// When there is no such pipeline or user, or the file cannot be written.
#[expect(clippy::print_stdout, reason = "this is what the command is for")]
pub fn user(arguments: &Users) -> Outcome {
    match &arguments.task {
        UserTask::Add { whose, name, role, secret } => {
            check_name(name).map_err(|e| anyhow!(e))?;
            let book = whose.book()?;
            let hash = hash(&secret.read()?).map_err(|e| anyhow!(e))?;
            book.change("user.add", name, |book| book.add(name, *role, hash))?;
            println!("'{name}' may log in as {}", role.name());
        }
        UserTask::Invite { whose, role } => {
            let book = whose.book()?;
            let code = secret("fli_").map_err(|e| anyhow!(e))?;
            let invitation = Invitation {
                hash: digest(&code),
                role: *role,
                expires: seconds(now() + INVITATION_TIME),
            };
            book.change("user.invite", role.name(), |book| {
                book.invitations.push(invitation);
                Ok(())
            })?;
            println!("{code}");
            note("the code is shown this once, and is good for seven days");
        }
        UserTask::List { whose, json } => list_users(&whose.book()?, *json)?,
        UserTask::Role { whose, name, role } => {
            alter(&whose.book()?, "user.role", name, |user| user.role = *role)?;
            println!("'{name}' is {}", role.name());
        }
        UserTask::Password { whose, name, secret } => {
            let book = whose.book()?;
            let hash = hash(&secret.read()?).map_err(|e| anyhow!(e))?;
            alter(&book, "user.password", name, |user| user.password = hash)?;
            println!("'{name}' has a new password");
        }
        UserTask::Disable { whose, name } => {
            alter(&whose.book()?, "user.disable", name, |user| user.disabled = true)?;
            println!("'{name}' is switched off");
        }
        UserTask::Enable { whose, name } => {
            alter(&whose.book()?, "user.enable", name, |user| user.disabled = false)?;
            println!("'{name}' is switched on");
        }
    }
    Ok(())
}

fn alter(
    book: &Book,
    what: &str,
    name: &str,
    change: impl FnOnce(&mut foreline_server::accounts::User),
) -> anyhow::Result<()> {
    book.change(what, name, |book| {
        change(book.user_mut(name)?);
        Ok(())
    })
}

#[expect(clippy::print_stdout, reason = "this is what the command is for")]
fn list_users(book: &Book, json: bool) -> Outcome {
    let all = book.store.book().map_err(anyhow::Error::from)?;
    if json {
        let users = all.users.iter().map(|user| {
            serde_json::json!({ "name": user.name, "role": user.role, "created": user.created, "disabled": user.disabled })
        });
        println!("{:#}", serde_json::Value::from(users.collect::<Vec<_>>()));
        return Ok(());
    }
    let mut table = Table::new(["name", "role", ""]);
    for user in &all.users {
        let state = if user.disabled { "switched off" } else { "" };
        table.push([user.name.clone(), user.role.name().to_owned(), state.to_owned()]);
    }
    print!("{table}");
    Ok(())
}

/// Makes and ends tokens.
///
/// # Errors
/// When there is no such pipeline or token, or the file cannot be written.
#[expect(clippy::print_stdout, reason = "this is what the command is for")]
pub fn token(arguments: &Tokens) -> Outcome {
    match &arguments.task {
        TokenTask::Create { whose, name, scope, expires } => {
            let book = whose.book()?;
            let shown = secret("flt_").map_err(|e| anyhow!(e))?;
            let expires = expires.map(|time| seconds(now() + time));
            book.change("token.create", name, |book| book.issue(name, scope, expires, &shown))?;
            println!("{shown}");
            note("the token is shown this once: authorization: bearer flt_...");
        }
        TokenTask::List { whose, json } => list_tokens(&whose.book()?, *json)?,
        TokenTask::Revoke { whose, id } => {
            whose.book()?.change("token.revoke", id, |book| {
                let before = book.tokens.len();
                book.tokens.retain(|token| token.id != *id);
                let is_gone = book.tokens.len() < before;
                is_gone.then_some(()).ok_or_else(|| format!("there is no token '{id}'"))
            })?;
            println!("'{id}' is no longer good");
        }
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "this is what the command is for")]
fn list_tokens(book: &Book, json: bool) -> Outcome {
    let all = book.store.book().map_err(anyhow::Error::from)?;
    if json {
        let tokens = all.tokens.iter().map(|t| {
            serde_json::json!({ "id": t.id, "name": t.name, "scopes": t.scopes, "created": t.created, "expires": t.expires })
        });
        println!("{:#}", serde_json::Value::from(tokens.collect::<Vec<_>>()));
        return Ok(());
    }
    let mut table = Table::new(["id", "name", "scopes", "ends"]);
    let now = seconds(now());
    for token in &all.tokens {
        let scopes: Vec<&str> = token.scopes.iter().map(|scope| scope.name()).collect();
        let ends = match token.expires {
            None => "never".to_owned(),
            Some(at) if at <= now => "has ended".to_owned(),
            Some(at) => format!("in {} days", (at - now).div_ceil(24 * 3600)),
        };
        table.push([token.id.clone(), token.name.clone(), scopes.join(","), ends]);
    }
    print!("{table}");
    Ok(())
}

/// What is for the eyes only, so that the secret alone can be piped on.
#[expect(clippy::print_stderr, reason = "beside what is printed")]
fn note(text: &str) {
    eprintln!("{text}");
}

#[expect(clippy::disallowed_methods, reason = "tokens end by the clock on the wall")]
fn now() -> SystemTime {
    SystemTime::now()
}
