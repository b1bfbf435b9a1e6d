//! Operations about accounts: logging in, users, tokens, the audit log.

use serde_json::json;

use super::document::{Operation, json_of};

/// All of them.
pub(super) fn all() -> Vec<Operation> {
    sessions().into_iter().chain(administration()).collect()
}

/// Logging in and out.
fn sessions() -> Vec<Operation> {
    let ann = json!({ "name": "ann", "role": "operator" });
    let body = json_of("Login", &json!({ "name": "ann", "password": "correct horse battery" }));
    let signup = json_of(
        "SignUp",
        &json!({ "name": "ann", "password": "correct horse battery", "invitation": "fli_0" }),
    );
    let changed = json_of(
        "NewPassword",
        &json!({ "old": "correct horse battery", "new": "incorrect horse battery" }),
    );
    let me =
        json!({ "accounts": true, "signup": "invited", "user": ann, "scopes": ["read", "ack"] });
    let answers = |operation: Operation| {
        operation
            .fails(400, &["bad-request"])
            .fails(404, &["not-found"])
            .fails(413, &["too-large"])
            .fails(415, &["bad-content-type"])
            .fails(429, &["too-many-tries"])
            .fails(500, &["internal"])
    };
    let begins = |operation: Operation| {
        let welcome = json_of("Welcome", &json!({ "user": ann }));
        answers(operation).gives_with(
            200,
            "A session begins, in the cookie `foreline_session`.",
            &welcome,
            &["Set-Cookie"],
        )
    };
    vec![
        Operation::new(
            "get /api/v1/auth/me",
            "accounts",
            "me",
            "Who is logged in, and what they may do",
        )
        .open()
        .gives(200, "Also where nobody is.", &json_of("Me", &me))
        .fails(401, &["unauthorized"]),
        begins(
            Operation::new("post /api/v1/auth/login", "accounts", "login", "Begin a session")
                .open()
                .body(&body),
        )
        .fails(401, &["unauthorized"]),
        begins(
            Operation::new(
                "post /api/v1/auth/signup",
                "accounts",
                "signup",
                "Make an account of one's own",
            )
            .open()
            .body(&signup),
        )
        .fails(401, &["unauthorized"])
        .fails(409, &["conflict"])
        .fails(422, &["bad-account"]),
        answers(
            Operation::new("post /api/v1/auth/logout", "accounts", "logout", "End the session")
                .open(),
        )
        .gives_with(
            200,
            "It has ended.",
            &json_of("Status", &json!({ "status": "logged out" })),
            &["Set-Cookie"],
        )
        .fails(401, &["unauthorized"]),
        begins(
            Operation::new(
                "post /api/v1/auth/password",
                "accounts",
                "changePassword",
                "Change one's own password",
            )
            .body(&changed),
        )
        .about("Every other session of the user ends.")
        .fails(409, &["conflict"])
        .fails(422, &["bad-account"]),
    ]
}

/// What administrators do.
fn administration() -> Vec<Operation> {
    let user =
        json!({ "name": "ann", "role": "operator", "created": 1_772_323_200, "disabled": false });
    let token = json!({ "id": "0123456789ab", "name": "grafana", "scopes": ["read"], "created": 1_772_323_200, "expires": null });
    let event = json!({ "at": 1_772_323_200, "who": "ann", "from": "127.0.0.1", "what": "login", "object": "", "outcome": "done" });
    let taken = |operation: Operation| {
        operation
            .fails(400, &["bad-request"])
            .fails(404, &["not-found"])
            .fails(409, &["conflict"])
            .fails(413, &["too-large"])
            .fails(415, &["bad-content-type"])
            .fails(422, &["bad-account"])
            .fails(429, &["too-many-tries"])
            .fails(500, &["internal"])
    };
    let new_user = json_of(
        "NewUser",
        &json!({ "name": "ann", "password": "correct horse battery", "role": "operator" }),
    );
    let new_token =
        json_of("NewToken", &json!({ "name": "grafana", "scopes": ["read"], "expires_days": 90 }));
    let invitation = json!({ "invitation": "fli_0", "role": "viewer", "expires": 1_772_928_000 });
    vec![
        Operation::new("get /api/v1/users", "accounts", "listUsers", "The users")
            .gives(200, "All of them.", &json_of("Users", &json!({ "users": [user] })))
            .fails(404, &["not-found"])
            .fails(500, &["internal"]),
        taken(
            Operation::new("post /api/v1/users", "accounts", "addUser", "Make a user")
                .body(&new_user),
        )
        .gives(201, "The user.", &json_of("User", &user)),
        taken(
            Operation::new("patch /api/v1/users/{name}", "accounts", "changeUser", "Change a user")
                .about("Their sessions end. The last administrator stays one.")
                .takes(&["user"])
                .body(&json_of("ChangedUser", &json!({ "role": "engineer" }))),
        )
        .gives(200, "The user as they are.", &json_of("User", &user))
        .fails(404, &["unknown-user", "not-found"]),
        taken(
            Operation::new(
                "post /api/v1/invitations",
                "accounts",
                "invite",
                "Let somebody make an account",
            )
            .body(&json_of("Invite", &json!({ "role": "viewer" }))),
        )
        .gives(201, "The code, this once.", &json_of("Invitation", &invitation)),
        Operation::new(
            "get /api/v1/tokens",
            "accounts",
            "listTokens",
            "The tokens, without what they are",
        )
        .gives(200, "All of them.", &json_of("Tokens", &json!({ "tokens": [token] })))
        .fails(404, &["not-found"])
        .fails(500, &["internal"]),
        taken(
            Operation::new("post /api/v1/tokens", "accounts", "addToken", "Make a token")
                .body(&new_token),
        )
        .gives(201, "The token, this once.", &json_of("Token", &token)),
        Operation::new("delete /api/v1/tokens/{id}", "accounts", "revokeToken", "End a token")
            .takes(&["token"])
            .gives(200, "It has ended.", &json_of("Status", &json!({ "status": "revoked" })))
            .fails(404, &["unknown-token", "not-found"])
            .fails(500, &["internal"]),
        Operation::new(
            "get /api/v1/audit",
            "accounts",
            "readAudit",
            "What was changed, newest first",
        )
        .takes(&["limit", "skip"])
        .gives(200, "A page.", &json_of("Audit", &json!({ "events": [event], "next": null })))
        .fails(400, &["bad-request"])
        .fails(404, &["not-found"])
        .fails(500, &["internal"]),
    ]
}
