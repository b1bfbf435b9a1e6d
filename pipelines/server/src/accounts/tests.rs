//! The file of accounts, its changes, and who gets in.

use std::net::IpAddr;

use super::*;

const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

fn accounts(folder: &Path) -> Accounts {
    Accounts::new(folder, Signup::Invited)
}

fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

#[test]
fn who_knows_the_password_gets_in() {
    let folder = tempfile::tempdir().unwrap();
    let accounts = accounts(folder.path());
    assert!(!accounts.is_any());
    let hashed = hash("correct horse").unwrap();
    assert!(hashed.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hashed}");
    accounts.store().change(|book| book.add("ann", Role::Operator, hashed)).unwrap();
    assert!(accounts.is_any());
    let ask = |name: &'static str, password: &'static str| {
        run(accounts.user(name, password, HERE)).map(|user| user.role)
    };
    assert_eq!(ask("ann", "correct horse"), Ok(Role::Operator));
    assert_eq!(ask("ann", "wrong horse"), Err(Denied::Wrong));
    assert_eq!(ask("bob", "correct horse"), Err(Denied::Wrong));
    accounts
        .store()
        .change(|book| {
            book.user_mut("ann")?.disabled = true;
            Ok(())
        })
        .unwrap();
    assert_eq!(ask("ann", "correct horse"), Err(Denied::Wrong));
    for _ in 0..3 {
        let _ = ask("ann", "guess");
    }
    assert!(matches!(ask("ann", "correct horse"), Err(Denied::TooMany(_))));
}

#[test]
fn a_token_is_good_until_it_ends() {
    let folder = tempfile::tempdir().unwrap();
    let accounts = accounts(folder.path());
    let issue = |name: &str, expires| {
        let shown = secret("flt_").unwrap();
        let scopes = [Scope::Read, Scope::Read];
        accounts.store().change(|book| book.issue(name, &scopes, expires, &shown)).unwrap();
        shown
    };
    let (good, over) = (issue("dashboard", None), issue("old", Some(1)));
    assert_eq!(good.len(), 4 + 64);
    assert_eq!(accounts.token(&good).unwrap().scopes, [Scope::Read]);
    assert_eq!(accounts.token(&over), None);
    assert_eq!(accounts.token("flt_"), None);
    // Another process changes the file.
    let other = Store::new(folder.path());
    other
        .change(|book| {
            book.tokens.clear();
            Ok(())
        })
        .unwrap();
    assert_eq!(accounts.token(&good), None);
    let text = std::fs::read_to_string(accounts.store().path()).unwrap();
    assert!(!text.contains(&good[4..]));
    use std::os::unix::fs::PermissionsExt as _;
    let rights = std::fs::metadata(accounts.store().path()).unwrap().permissions().mode();
    assert_eq!(rights & 0o777, 0o600, "nobody else reads it");
}

#[test]
fn an_invitation_is_used_once() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::new(folder.path());
    let code = secret("fli_").unwrap();
    let invitation = |expires| Invitation { hash: digest(&code), role: Role::Viewer, expires };
    let invite = |expires| {
        store.change(|book| {
            book.invitations.push(invitation(expires));
            Ok(())
        })
    };
    invite(1).unwrap();
    assert!(store.change(|book| book.accept(&code)).is_err(), "it has ended");
    invite(u64::MAX).unwrap();
    assert_eq!(store.change(|book| book.accept(&code)).unwrap(), Role::Viewer);
    assert!(store.change(|book| book.accept(&code)).is_err());
    assert!(store.change(|book| book.accept("fli_")).is_err());
}

#[test]
fn a_damaged_file_lets_nobody_in() {
    let folder = tempfile::tempdir().unwrap();
    let accounts = accounts(folder.path());
    std::fs::write(accounts.store().path(), "{ \"version\": 1").unwrap();
    assert!(accounts.is_any(), "it is not as if there were none");
    assert!(matches!(run(accounts.user("ann", "x", HERE)), Err(Denied::Broken(_))));
    let error = accounts.store().change(|_| Ok(())).unwrap_err().to_string();
    assert!(error.contains("accounts.json' is damaged"), "{error}");
    std::fs::write(
        accounts.store().path(),
        "{\"version\":9,\"users\":[],\"tokens\":[],\"invitations\":[]}",
    )
    .unwrap();
    let error = accounts.store().book().unwrap_err().to_string();
    assert!(error.contains("of version 9, and 1 is read"), "{error}");
}

#[test]
fn sessions_end() {
    let sessions = Sessions::default();
    let (one, two) = (sessions.begin("ann").unwrap(), sessions.begin("ann").unwrap());
    assert_ne!(one, two);
    assert_eq!(sessions.find(&one).unwrap().user, "ann");
    sessions.end(&one);
    assert!(sessions.find(&one).is_none(), "not after logging out");
    assert!(sessions.find(&two).is_some());
    sessions.end_all("ann");
    assert!(sessions.find(&two).is_none());
    assert!(sessions.find("").is_none());
}

#[test]
fn what_was_done_is_read_newest_first() {
    let folder = tempfile::tempdir().unwrap();
    let audit = Audit::new(folder.path());
    for i in 0..5 {
        audit.write("ann", "127.0.0.1", "alert.ack", &format!("a{i}"), "done").unwrap();
    }
    let objects = |skip, most| {
        let events = audit.newest(skip, most).unwrap();
        events.into_iter().map(|event| event.object).collect::<Vec<_>>()
    };
    assert_eq!(objects(0, 2), ["a4", "a3"]);
    assert_eq!(objects(3, 9), ["a1", "a0"]);
    // Half a line is what a power cut leaves.
    let path = folder.path().join("audit.ndjson");
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() - 9]).unwrap();
    assert_eq!(objects(0, 9), ["a3", "a2", "a1", "a0"]);
    // A file that is full is put aside.
    std::fs::write(&path, vec![b'\n'; 8 << 20]).unwrap();
    audit.write("ann", "", "login", &"x".repeat(9999), "done").unwrap();
    assert!(std::fs::metadata(&path).unwrap().len() < 1000);
    assert!(folder.path().join("audit.1.ndjson").exists());
}

#[test]
fn names_and_passwords_have_bounds() {
    for good in ["ann", "김철수", "a.b-c_d@e"] {
        assert!(check_name(good).is_ok(), "{good}");
    }
    for bad in ["", "a b", "a/b", "..\u{0}", "<x>", &"x".repeat(65)] {
        assert!(check_name(bad).is_err(), "{bad:?}");
    }
    assert!(check_password("too short").is_err());
    assert!(check_password("long enough").is_ok());
    assert!(check_password(&"x".repeat(513)).is_err());
    assert_eq!("admin".parse(), Ok(Role::Admin));
    assert!("root".parse::<Role>().is_err());
    assert_eq!(Scope::Swap.role(), Role::Engineer);
}
