//! Who may ask queries over the PostgreSQL wire: whoever may read over HTTP, with a token or their own password.

use std::net::IpAddr;
use std::sync::Arc;

use foreline_server::Token;
use foreline_server::accounts::{Accounts, Denied, Scope};
use foreline_spec::Secret;
use foreline_sql::{Admitting, Doorkeeper};

/// Knows the tokens of the file, and the accounts.
#[derive(Debug)]
pub(crate) struct Keeper {
    tokens: Vec<Token>,
    accounts: Arc<Accounts>,
}

impl Keeper {
    pub(crate) fn new(tokens: &[Secret], accounts: Arc<Accounts>) -> Self {
        let tokens = tokens.iter().map(|token| Token::new(token.expose())).collect();
        Keeper { tokens, accounts }
    }

    async fn knows(&self, user: &str, password: &str, address: IpAddr) -> Result<(), String> {
        // All of them are looked at, whichever fits.
        if self.tokens.iter().fold(false, |any, token| any | token.is(password)) {
            return Ok(());
        }
        if let Some(token) = self.accounts.token(password) {
            let reads = token.scopes.contains(&Scope::Read);
            return if reads { Ok(()) } else { Err("the token is not one for 'read'".to_owned()) };
        }
        match self.accounts.user(user, password, address).await {
            Ok(_) => Ok(()),
            Err(Denied::Wrong) => Err("name or password is wrong".to_owned()),
            Err(Denied::TooMany(wait)) => {
                Err(format!("too many tries; wait {} s", wait.as_secs().max(1)))
            }
            Err(Denied::Broken(what)) => {
                tracing::error!("accounts: {what}");
                Err("the accounts cannot be read now; the log says why".to_owned())
            }
        }
    }
}

impl Doorkeeper for Keeper {
    fn is_open(&self) -> bool {
        self.tokens.is_empty() && !self.accounts.is_any()
    }

    fn admits<'a>(&'a self, user: &'a str, password: &'a str, address: IpAddr) -> Admitting<'a> {
        Box::pin(async move {
            let known = self.knows(user, password, address).await;
            if let Err(why) = &known {
                let user: String = user.chars().take(64).flat_map(char::escape_debug).collect();
                tracing::warn!("'{user}' from {address} was refused on the PostgreSQL wire: {why}");
            }
            known
        })
    }
}
