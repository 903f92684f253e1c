//! `tidegate token` from its arguments to its files, and its tokens before the gateway's judgement.

use super::*;
use crate::control::testing::Folder;
use crate::control::tokens::{Issuer, IssuerKind, KeySet, Refusal, TokenIdentity, verify};
use clap::Parser;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

const NOW: i64 = 1_750_000_000;
const DAY: i64 = 86_400;

#[derive(clap::Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// Runs a command line at a time; `DIR` stands for the folder. What it printed, and its notes.
fn token_at(now: i64, folder: &Folder, line: &str) -> Result<(String, String), String> {
    let dir = folder.path().display().to_string();
    let words = std::iter::once("token".to_string())
        .chain(line.split(' ').map(|word| word.replace("DIR", &dir)));
    let cli = Cli::try_parse_from(words).map_err(|error| error.to_string())?;
    let (mut out, mut notes) = (Vec::new(), Vec::new());
    run(&cli.command, now, &mut out, &mut notes)?;
    Ok((
        String::from_utf8(out).unwrap(),
        String::from_utf8(notes).unwrap(),
    ))
}

fn token(folder: &Folder, line: &str) -> Result<String, String> {
    token_at(NOW, folder, line).map(|(out, _)| out)
}

/// A folder with a key.
fn site() -> Folder {
    let folder = Folder::new();
    token(&folder, "init --dir DIR").unwrap();
    folder
}

fn issue(folder: &Folder, more: &str) -> String {
    let out = token(folder, &format!("issue --dir DIR {more}")).unwrap();
    let token = out.strip_suffix('\n').unwrap();
    assert!(!token.contains(char::is_whitespace), "{out:?}");
    token.to_owned()
}

/// As a gateway has it from the connector that published the folder's key set.
fn issuer_of(folder: &Folder) -> Issuer {
    let keys = KeySet::parse(&std::fs::read(folder.file(JWKS)).unwrap()).unwrap();
    Issuer {
        name: "main".into(),
        kind: IssuerKind::Site,
        issuer: "urn:tidegate:site:main".into(),
        audience: vec![AUDIENCE.into()],
        tenants: vec![],
        id: "sub".into(),
        keys: Some(Arc::new(keys)),
    }
}

fn judge(folder: &Folder, token: &str, now: i64) -> Result<TokenIdentity, Refusal> {
    verify(&[issuer_of(folder)], token.as_bytes(), now)
}

/// Of a token of any kind.
fn id_of(token: &str) -> String {
    claims_of(token)["jti"].as_str().unwrap().to_owned()
}

fn claims_of(token: &str) -> serde_json::Value {
    let claims = token.split('.').nth(1).unwrap();
    let claims = crate::control::tokens::jose::decode(claims.as_bytes()).unwrap();
    serde_json::from_slice(&claims).unwrap()
}

fn rows(folder: &Folder, now: i64) -> Vec<serde_json::Value> {
    let (out, _) = token_at(now, folder, "list --dir DIR --json").unwrap();
    serde_json::from_str(&out).unwrap()
}

fn mode(folder: &Folder, name: &str) -> u32 {
    std::fs::metadata(folder.file(name))
        .unwrap()
        .permissions()
        .mode()
        & 0o777
}

fn text(folder: &Folder, name: &str) -> String {
    std::fs::read_to_string(folder.file(name)).unwrap()
}

#[test]
fn an_issued_token_passes_the_gateways_judgement() {
    let folder = site();
    let token = issue(
        &folder,
        "--client pc-1.corp.example --device PC-1 --user ann@corp.example",
    );
    let identity = judge(&folder, &token, NOW).unwrap();
    assert_eq!(identity.client_id, "site:main/pc-1.corp.example");
    assert_eq!(identity.device.as_deref(), Some("PC-1"));
    assert_eq!(identity.user.as_deref(), Some("ann@corp.example"));
    assert_eq!(identity.not_after, NOW + 30 * DAY);
    assert!(judge(&folder, &token, NOW + 30 * DAY - 1).is_ok());
    assert!(judge(&folder, &token, NOW + 30 * DAY).is_err());
    assert!(judge(&folder, &token, NOW - 5).is_ok());
    assert!(judge(&folder, &token, NOW - 6).is_err());
    // Another folder's key is another site's.
    let other = site();
    assert_eq!(
        judge(&other, &token, NOW),
        Err(Refusal::UnknownKey { issuer: 0 })
    );
}

#[test]
fn a_registration_token_names_no_client_and_lives_days() {
    let folder = site();
    let token = issue(&folder, "--registration");
    let why = "the site's token is not a client's (`kind`)";
    assert_eq!(
        judge(&folder, &token, NOW),
        Err(Refusal::Invalid(why.into()))
    );
    let claims = claims_of(&token);
    assert_eq!(claims["kind"], "registration");
    assert_eq!((&claims["iat"], &claims["nbf"]), (&NOW.into(), &NOW.into()));
    assert_eq!(claims["exp"], NOW + 3 * DAY);
    for wrong in [
        "--client registration",
        "--client Registration",
        "--registration --client a",
        "",
    ] {
        assert!(
            super::tests::token(&folder, format!("issue --dir DIR {wrong}").trim()).is_err(),
            "{wrong}"
        );
    }
}

#[test]
fn lifetimes_end_on_both_sides_of_their_limits() {
    let folder = site();
    let lives = |more: &str| {
        let out = token(&folder, &format!("issue --dir DIR {more}"))?;
        Ok::<_, String>(claims_of(out.trim_end())["exp"].as_i64().unwrap() - NOW)
    };
    for (more, seconds) in [
        ("--client a --lifetime 1s", 1),
        ("--client a --lifetime 15m", 900),
        ("--client a --lifetime 4320min", 3 * DAY),
        ("--client a --lifetime 12h", 43_200),
        ("--client a --lifetime 365d", 365 * DAY),
        ("--registration --lifetime 7d", 7 * DAY),
        ("--registration --lifetime 168h", 7 * DAY),
    ] {
        assert_eq!(lives(more), Ok(seconds), "{more}");
    }
    for (more, why) in [
        ("--client a --lifetime 366d", "at most 365 days"),
        ("--client a --lifetime 8761h", "at most 365 days"),
        ("--registration --lifetime 8d", "at most 7 days"),
        ("--registration --lifetime 604801s", "at most 7 days"),
        ("--client a --lifetime 0", "is no time"),
        ("--client a --lifetime 0d", "is nothing"),
        ("--client a --lifetime -1d", "-1"),
        ("--client a --lifetime 1w", "is no time"),
        ("--client a --lifetime d", "whole number"),
        (
            "--client a --lifetime 99999999999999999999d",
            "whole number",
        ),
        ("--client a --lifetime 9223372036854775807d", "far too long"),
    ] {
        let error = lives(more).unwrap_err();
        assert!(error.contains(why), "{more}: {error}");
    }
}

#[test]
fn names_that_a_gateway_would_refuse_are_refused_here() {
    let folder = site();
    let run = |args: &[&str]| {
        let dir = folder.path().display().to_string();
        let words = ["token", "issue", "--dir", &dir]
            .into_iter()
            .chain(args.iter().copied());
        let cli = Cli::try_parse_from(words).map_err(|error| error.to_string())?;
        run(&cli.command, NOW, &mut Vec::new(), &mut Vec::new())
    };
    let long = "x".repeat(129);
    for bad in ["", " ", " a", "a ", "a\n", "é", "a\0", &long] {
        assert!(run(&["--client", bad]).is_err(), "{bad:?}");
        assert!(run(&["--client", "a", "--device", bad]).is_err(), "{bad:?}");
        assert!(run(&["--client", "a", "--user", bad]).is_err(), "{bad:?}");
        assert!(
            run(&["--client", "a", "--audience", bad]).is_err(),
            "{bad:?}"
        );
    }
    // It fits alone, but not behind `site:main/`: the token is judged before it is printed.
    let error = run(&["--client", &"x".repeat(119)]).unwrap_err();
    assert!(error.contains("client id would be too long"), "{error}");
    assert!(run(&["--client", &"x".repeat(118)]).is_ok());
    assert_eq!(
        rows(&folder, NOW).len(),
        1,
        "a refused token stands in no ledger"
    );
}

#[test]
fn the_key_is_for_its_owner_alone_and_the_set_is_public() {
    let folder = site();
    issue(&folder, "--client a");
    assert_eq!(mode(&folder, KEY), 0o600);
    assert_eq!(mode(&folder, LEDGER), 0o600);
    assert_eq!(mode(&folder, JWKS) & 0o444, 0o444);
    assert!(text(&folder, KEY).starts_with("-----BEGIN PRIVATE KEY-----"));
    let set: serde_json::Value = serde_json::from_str(&text(&folder, JWKS)).unwrap();
    let key = &set["keys"][0];
    assert_eq!(
        (&key["kty"], &key["alg"], &key["use"]),
        (&"EC".into(), &"ES256".into(), &"sig".into())
    );
    let (x, y) = (key["x"].as_str().unwrap(), key["y"].as_str().unwrap());
    let canonical = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
    assert_eq!(key["kid"], keys::thumbprint(&canonical));
    token(&folder, "init --dir DIR --rotate").unwrap();
    assert_eq!(mode(&folder, KEY), 0o600);
    let hidden = std::fs::read_dir(folder.path()).unwrap();
    let hidden = hidden.filter(|f| f.as_ref().unwrap().file_name().as_encoded_bytes()[0] == b'.');
    assert_eq!(hidden.count(), 0, "a temporary file stayed");
}

/// RFC 8037 A.3.
#[test]
fn thumbprints_are_those_of_rfc_7638() {
    let key = r#"{"crv":"Ed25519","kty":"OKP","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
    assert_eq!(
        keys::thumbprint(key),
        "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
    );
}

#[test]
fn a_key_is_made_once() {
    let folder = site();
    let before = (text(&folder, KEY), text(&folder, JWKS));
    assert!(
        token(&folder, "init --dir DIR")
            .unwrap_err()
            .contains("--rotate")
    );
    assert!(token(&folder, "init --dir DIR --drop-old").is_err());
    assert_eq!((text(&folder, KEY), text(&folder, JWKS)), before);
    // Half of it is enough to refuse.
    std::fs::remove_file(folder.file(KEY)).unwrap();
    assert!(
        token(&folder, "init --dir DIR")
            .unwrap_err()
            .contains("is there already")
    );
    token(&folder, "init --dir DIR --rotate").unwrap();
    assert_eq!(issuer_of(&folder).keys.unwrap().len(), 2);
    assert!(token(&Folder::new(), "init --dir DIR/new/folder").is_ok());
    assert!(token(&Folder::new(), "init --dir DIR --site a/b").is_err());
}

#[test]
fn rotating_keeps_old_tokens_valid_and_dropping_ends_them() {
    let folder = site();
    let first = issue(&folder, "--client a");
    let (_, notes) = token_at(NOW, &folder, "init --dir DIR --rotate").unwrap();
    assert!(notes.contains("tidegate reload"), "{notes}");
    let second = issue(&folder, "--client b");
    assert!(judge(&folder, &first, NOW).is_ok() && judge(&folder, &second, NOW).is_ok());
    assert_eq!(issuer_of(&folder).keys.unwrap().len(), 2);
    token(&folder, "init --dir DIR --rotate --drop-old").unwrap();
    let third = issue(&folder, "--client c");
    assert_eq!(
        judge(&folder, &first, NOW),
        Err(Refusal::UnknownKey { issuer: 0 })
    );
    assert_eq!(
        judge(&folder, &second, NOW),
        Err(Refusal::UnknownKey { issuer: 0 })
    );
    assert!(judge(&folder, &third, NOW).is_ok());
}

#[test]
fn the_set_of_keys_is_bounded_and_can_be_lost() {
    let folder = site();
    let first = issue(&folder, "--client a");
    for _ in 1..16 {
        token(&folder, "init --dir DIR --rotate").unwrap();
    }
    assert!(judge(&folder, &first, NOW).is_ok());
    let key = text(&folder, KEY);
    assert!(
        token(&folder, "init --dir DIR --rotate")
            .unwrap_err()
            .contains("16 keys")
    );
    assert_eq!(text(&folder, KEY), key);
    // The set lost: nothing is issued that no gateway could verify, and rotating starts from the key.
    let last = issue(&folder, "--client b");
    std::fs::remove_file(folder.file(JWKS)).unwrap();
    assert!(token(&folder, "issue --dir DIR --client a").is_err());
    token(&folder, "init --dir DIR --rotate").unwrap();
    assert!(judge(&folder, &last, NOW).is_ok());
    // A set without the signing key: the same.
    let other = site();
    std::fs::copy(other.file(JWKS), folder.file(JWKS)).unwrap();
    let error = token(&folder, "issue --dir DIR --client a").unwrap_err();
    assert!(error.contains("does not hold the key"), "{error}");
}

#[test]
fn a_folder_is_one_sites() {
    let folder = Folder::new();
    token(&folder, "init --dir DIR --site north").unwrap();
    let out = issue(&folder, "--client a");
    let mut issuer = issuer_of(&folder);
    assert!(verify(std::slice::from_ref(&issuer), out.as_bytes(), NOW).is_err());
    issuer.issuer = super::issuer("north");
    assert!(verify(&[issuer], out.as_bytes(), NOW).is_ok());
    issue(&folder, "--client a --site north");
    for line in [
        "issue --dir DIR --client a --site main",
        "init --dir DIR --rotate --site main",
    ] {
        assert!(
            token(&folder, line).unwrap_err().contains("north"),
            "{line}"
        );
    }
}

#[test]
fn the_list_shows_what_was_issued_and_its_state() {
    let folder = site();
    let short = issue(&folder, "--client pc-1 --lifetime 1h");
    let blocked = issue(&folder, "--registration");
    let long = issue(&folder, "--client pc-2");
    let ids = [&short, &blocked, &long].map(|token| id_of(token));
    token(&folder, &format!("block {} --dir DIR", ids[1])).unwrap();
    let states = |now| -> Vec<String> {
        rows(&folder, now)
            .iter()
            .map(|row| row["state"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(states(NOW), ["valid", "blocked", "valid"]);
    assert_eq!(states(NOW + 3600), ["expired", "blocked", "valid"]);
    assert_eq!(states(NOW + 3 * DAY), ["expired", "expired", "valid"]);
    let row = &rows(&folder, NOW)[1];
    assert_eq!(row["id"], ids[1]);
    assert_eq!(
        (&row["kind"], &row["client"]),
        (&"registration".into(), &"registration".into())
    );
    assert_eq!(
        (&row["issued"], &row["expires"]),
        (&NOW.into(), &(NOW + 3 * DAY).into())
    );
    let table = token(&folder, "list --dir DIR").unwrap();
    let lines: Vec<_> = table.lines().collect();
    assert_eq!(lines.len(), 4);
    assert!(lines[0].starts_with("ID ") && lines[0].ends_with("STATE"));
    assert!(
        lines[1].starts_with(&ids[0])
            && lines[1].contains(" client ")
            && lines[1].contains("2025-06-15T15:06:40Z")
    );
    assert!(lines[2].ends_with("blocked"));
    // The tokens themselves stand nowhere.
    for token in [short, blocked, long] {
        let signature = token.rsplit('.').next().unwrap();
        assert!(!text(&folder, LEDGER).contains(signature) && !table.contains(signature));
    }
}

#[test]
fn a_blocked_id_stands_in_the_file_until_unblocked_or_expired() {
    let folder = site();
    let ids = ["--client a", "--client b --lifetime 1h", "--client c"]
        .map(|more| id_of(&issue(&folder, more)));
    let denied = || text(&folder, DENIED);
    let (out, _) = token_at(NOW, &folder, &format!("block {} --dir DIR", ids[0])).unwrap();
    assert!(out.contains(&ids[0]) && out.contains("is blocked"), "{out}");
    assert!(
        out.contains(r#"deny = { files = ["denied-tokens.txt"] }"#),
        "{out}"
    );
    assert!(
        out.contains("revision") && out.contains("tidegate reload"),
        "{out}"
    );
    assert_eq!(denied(), format!("token {}\n", ids[0]));
    token(
        &folder,
        &format!("block {} --dir DIR", ids[1].to_uppercase()),
    )
    .unwrap();
    assert_eq!(denied(), format!("token {}\ntoken {}\n", ids[0], ids[1]));
    // What has expired leaves the list with the next change.
    token_at(NOW + 3600, &folder, &format!("block {} --dir DIR", ids[2])).unwrap();
    assert_eq!(denied(), format!("token {}\ntoken {}\n", ids[0], ids[2]));
    token(&folder, &format!("unblock {} --dir DIR", ids[0])).unwrap();
    token_at(
        NOW + 3600,
        &folder,
        &format!("unblock {} --dir DIR", ids[0]),
    )
    .unwrap();
    assert_eq!(denied(), format!("token {}\n", ids[2]));
    assert_eq!(rows(&folder, NOW)[0]["state"], "valid");
    let lines = text(&folder, LEDGER);
    // Three issued, three blocked, one unblocked: what changes nothing adds nothing.
    assert_eq!(lines.lines().count(), 7, "{lines}");
    // A list lost, or not written by a run that ended early, comes back.
    std::fs::remove_file(folder.file(DENIED)).unwrap();
    let (out, _) = token_at(NOW, &folder, &format!("block {} --dir DIR", ids[2])).unwrap();
    assert!(out.contains("already"), "{out}");
    assert_eq!(denied().lines().count(), 2);
    let (_, notes) = token_at(NOW + 3600, &folder, &format!("block {} --dir DIR", ids[1])).unwrap();
    assert!(notes.contains("has expired"), "{notes}");
    for wrong in [
        "block nobody --dir DIR",
        "block --dir DIR",
        "unblock 00 --dir DIR",
    ] {
        assert!(token(&folder, wrong).is_err(), "{wrong}");
    }
}

#[test]
fn a_torn_last_line_harms_no_other() {
    let folder = site();
    let first = id_of(&issue(&folder, "--client a"));
    let whole = text(&folder, LEDGER);
    issue(&folder, "--client b");
    let both = text(&folder, LEDGER);
    for cut in whole.len() + 1..both.len() {
        folder.write(LEDGER, &both[..cut]);
        let third = id_of(&issue(&folder, "--client c"));
        let rows = rows(&folder, NOW);
        assert_eq!(rows[0]["id"], first);
        assert_eq!(rows.last().unwrap()["id"], third);
        // Only the line's end was missing in the last round.
        assert_eq!(
            rows.len(),
            if cut == both.len() - 1 { 3 } else { 2 },
            "{cut}"
        );
    }
    folder.write(LEDGER, &format!("{whole}\u{0}\u{0}\u{0}"));
    let (_, notes) = token_at(NOW, &folder, "list --dir DIR").unwrap();
    assert!(notes.contains("1 lines cannot be read"), "{notes}");
}

#[test]
fn lines_that_no_command_wrote_reach_no_list() {
    let folder = site();
    let id = id_of(&issue(&folder, "--client a"));
    let good = text(&folder, LEDGER);
    let other = "0".repeat(32);
    for line in [
        good.trim_end().replace("\"a\"", "\"b\""),
        good.trim_end().replace(&id, "x\\ntoken y"),
        good.trim_end()
            .replace(&id, &other)
            .replace("\"a\"", "\"\\u001b[2J\""),
        format!(r#"{{"event":"blocked","id":"{other}","at":1}}"#),
        r#"{"event":"deleted","id":"x"}"#.into(),
        "[]".into(),
        "\u{feff}{}".into(),
    ] {
        folder.write(LEDGER, &format!("{good}{line}\n"));
        let (_, notes) = token_at(NOW, &folder, "list --dir DIR").unwrap();
        assert!(notes.contains("1 lines cannot be read"), "{line}: {notes}");
        assert_eq!(rows(&folder, NOW).len(), 1, "{line}");
    }
}

#[test]
fn commands_at_once_lose_no_line() {
    let folder = site();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let folder = &folder;
            scope.spawn(move || {
                for number in 0..10 {
                    let token = issue(folder, &format!("--client pc-{thread}-{number}"));
                    let id = id_of(&token);
                    self::token(folder, &format!("block {id} --dir DIR")).unwrap();
                }
            });
        }
    });
    let rows = rows(&folder, NOW);
    assert_eq!(rows.len(), 40);
    assert!(rows.iter().all(|row| row["state"] == "blocked"));
    assert_eq!(text(&folder, DENIED).lines().count(), 40);
}

#[test]
fn without_a_key_the_hint_says_how_to_get_one() {
    let folder = Folder::new();
    for line in [
        "issue --dir DIR --client a",
        "list --dir DIR",
        "block 00 --dir DIR",
        "init --dir DIR --rotate",
    ] {
        let error = token(&folder, line).unwrap_err();
        assert!(error.contains("token init"), "{line}: {error}");
    }
    assert!(!folder.file(KEY).exists());
}

#[test]
fn an_audience_of_ones_own_is_told_of() {
    let folder = site();
    let (out, notes) =
        token_at(NOW, &folder, "issue --dir DIR --client a --audience other").unwrap();
    assert!(notes.contains("gateways refuse it"), "{notes}");
    assert!(matches!(
        judge(&folder, out.trim_end(), NOW),
        Err(Refusal::Invalid(_))
    ));
}
