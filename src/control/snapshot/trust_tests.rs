//! Chains right and wrong.

use super::{ClientIdentity, Stock, Trust, Verdict};
use crate::control::certificates::facts::hex;
use crate::control::certificates::pem;
use crate::control::settings::{IdField, PublishedCa, SiteSettings, sha256};
use crate::control::testing::*;
use rcgen::{
    BasicConstraints, DnType, DnValue, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
    SanType, SerialNumber,
};

fn settings(cas: &[(&str, &Ca, IdField)]) -> SiteSettings {
    let publish = |(name, ca, id): &(&str, &Ca, IdField)| PublishedCa {
        name: name.to_string(),
        pem: ca.pem(),
        id: *id,
    };
    SiteSettings {
        revision: 1,
        client_ca: cas.iter().map(publish).collect(),
        ..SiteSettings::default()
    }
}

fn trust(ca: &Ca) -> Trust {
    made(&settings(&[("corp", ca, IdField::DnsSan)])).unwrap()
}

/// What stands in the settings alone.
fn made(settings: &SiteSettings) -> Result<Trust, String> {
    Trust::new(settings, &[], &Stock::default())
}

/// A chain of one.
fn one(leaf: &Vec<u8>) -> &[Vec<u8>] {
    std::slice::from_ref(leaf)
}

#[track_caller]
fn accepted(verdict: Verdict) -> ClientIdentity {
    match verdict {
        Verdict::Accepted(identity) => identity,
        other => panic!("not accepted: {other:?}"),
    }
}

#[track_caller]
fn rejected(verdict: Verdict, reason: &str) {
    match verdict {
        Verdict::Rejected(why) if why.contains(reason) => {}
        other => panic!("wanted a rejection with {reason:?}: {other:?}"),
    }
}

#[test]
fn a_good_leaf_is_its_dns_name() {
    let root = ca("root");
    let leaf = leaf("pc1.corp.example", &root, |_| {});
    let identity = accepted(trust(&root).judge(one(&leaf), NOW));
    assert_eq!(identity.client_id, "cert:corp/pc1.corp.example");
    assert_eq!(identity.device.as_deref(), Some("pc1.corp.example"));
    assert_eq!(identity.cert_hash(), Some(hex(&sha256(&leaf)).as_str()));
    assert_eq!(identity.not_after, END);
    assert_eq!(identity.serial().unwrap().len() % 2, 0);
}

#[test]
fn every_algorithm_of_the_provider_is_taken_for_ca_and_leaf() {
    let rsa = || KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
    let keys = [
        KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap(),
        KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap(),
        KeyPair::generate_for(&rcgen::PKCS_ECDSA_P521_SHA512).unwrap(),
        KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap(),
        rsa(),
    ];
    let leaf_key = rsa();
    for key in keys {
        let algorithm = format!("{:?}", key.algorithm());
        let root = Ca::self_signed(ca_params("root"), key).unwrap();
        let own = leaf("pc1", &root, |_| {});
        let with_rsa = leaf_with_key("pc1", &root, &leaf_key, |_| {});
        for leaf in [own, with_rsa] {
            let verdict = trust(&root).judge(&[leaf], NOW);
            assert!(
                matches!(verdict, Verdict::Accepted(_)),
                "{algorithm}: {verdict:?}"
            );
        }
    }
}

#[test]
fn the_certificates_dates_are_kept() {
    let root = ca("root");
    let trust = trust(&root);
    let leaf = leaf("pc1", &root, |_| {});
    rejected(trust.judge(one(&leaf), END + 1), "expired");
    rejected(trust.judge(one(&leaf), BEGIN - 1), "not valid yet");
    accepted(trust.judge(one(&leaf), END));
    accepted(trust.judge(&[leaf], BEGIN));
}

#[test]
fn the_cas_own_dates_are_kept() {
    let root = ca_with("root", |p| p.not_after = at(NOW - 1));
    rejected(
        trust(&root).judge(&[leaf("pc1", &root, |_| {})], NOW),
        "expired",
    );
    let root = ca_with("root", |p| p.not_before = at(NOW + 1));
    rejected(
        trust(&root).judge(&[leaf("pc1", &root, |_| {})], NOW),
        "not valid yet",
    );
}

#[test]
fn the_verdict_holds_until_the_first_end_in_the_chain() {
    let root = ca("root");
    let middle = intermediate("middle", &root, |p| p.not_after = at(NOW + 60));
    let chain = [leaf("pc1", &middle, |_| {}), middle.der().to_vec()];
    assert_eq!(
        accepted(trust(&root).judge(&chain, NOW)).not_after,
        NOW + 60
    );
    rejected(trust(&root).judge(&chain, NOW + 61), "expired");
    let root = ca_with("root", |p| p.not_after = at(NOW + 30));
    assert_eq!(
        accepted(trust(&root).judge(&[leaf("pc1", &root, |_| {})], NOW)).not_after,
        NOW + 30
    );
}

#[test]
fn client_authentication_must_be_named() {
    let root = ca("root");
    let trust = trust(&root);
    let with = |usages: Vec<ExtendedKeyUsagePurpose>| {
        leaf("pc1", &root, |p| p.extended_key_usages = usages)
    };
    rejected(
        trust.judge(&[with(vec![ExtendedKeyUsagePurpose::ServerAuth])], NOW),
        "client authentication",
    );
    rejected(trust.judge(&[with(vec![])], NOW), "client authentication");
    rejected(
        trust.judge(&[with(vec![ExtendedKeyUsagePurpose::Any])], NOW),
        "client authentication",
    );
    let both = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    accepted(trust.judge(&[with(both)], NOW));
}

#[test]
fn a_key_that_may_not_sign_is_no_clients() {
    let root = ca("root");
    let leaf = leaf("pc1", &root, |p| {
        p.key_usages = vec![KeyUsagePurpose::KeyEncipherment]
    });
    rejected(trust(&root).judge(&[leaf], NOW), "key usage");
}

#[test]
fn foreign_and_self_signed_certificates_are_rejected() {
    let (root, foreign) = (ca("root"), ca("root"));
    let trust = trust(&root);
    rejected(
        trust.judge(&[leaf("pc1", &foreign, |_| {})], NOW),
        "signature",
    );
    let other_name = ca("other");
    let by_other = leaf("pc1", &other_name, |_| {});
    rejected(trust.judge(one(&by_other), NOW), "no published CA");
    // Bringing the foreign CA along makes nobody trust it.
    rejected(
        trust.judge(&[by_other, other_name.der().to_vec()], NOW),
        "no published CA",
    );
    let own = leaf_params("pc1")
        .self_signed(&KeyPair::generate().unwrap())
        .unwrap()
        .der()
        .to_vec();
    rejected(trust.judge(&[own], NOW), "no published CA");
}

#[test]
fn a_cas_certificate_is_no_client() {
    let root = ca_with("root", |p| {
        p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]
    });
    let middle = intermediate("middle", &root, |p| {
        p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        p.key_usages.push(KeyUsagePurpose::DigitalSignature);
    });
    rejected(trust(&root).judge(&[middle.der().to_vec()], NOW), "CA");
    assert!(matches!(
        trust(&root).judge(&[root.der().to_vec()], NOW),
        Verdict::Rejected(_)
    ));
}

#[test]
fn an_end_entity_issues_nothing() {
    let root = ca("root");
    let key = KeyPair::generate().unwrap();
    let params = leaf_params("pc1");
    let pc1 = params.signed_by(&key, &root).unwrap();
    let issuer = rcgen::Issuer::new(params, key);
    let forged = leaf_params("boss")
        .signed_by(&KeyPair::generate().unwrap(), &issuer)
        .unwrap();
    rejected(
        trust(&root).judge(&[forged.der().to_vec(), pc1.der().to_vec()], NOW),
        "not a CA",
    );
}

#[test]
fn an_issuer_must_be_allowed_to_sign_certificates() {
    let root = ca("root");
    let middle = intermediate("middle", &root, |p| {
        p.key_usages = vec![KeyUsagePurpose::DigitalSignature]
    });
    let chain = [leaf("pc1", &middle, |_| {}), middle.der().to_vec()];
    rejected(trust(&root).judge(&chain, NOW), "not a CA");
}

#[test]
fn path_lengths_are_kept_of_issuers_and_of_the_published_ca() {
    let short =
        |p: &mut rcgen::CertificateParams| p.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let root = ca_with("root", short);
    let middle = intermediate("middle", &root, |_| {});
    let chain = [leaf("pc1", &middle, |_| {}), middle.der().to_vec()];
    rejected(trust(&root).judge(&chain, NOW), "longer than");
    accepted(trust(&root).judge(&[leaf("pc1", &root, |_| {})], NOW));

    let root = ca("root");
    let middle = intermediate("middle", &root, short);
    let low = intermediate("low", &middle, |_| {});
    let chain = [
        leaf("pc1", &low, |_| {}),
        low.der().to_vec(),
        middle.der().to_vec(),
    ];
    rejected(trust(&root).judge(&chain, NOW), "longer than");
}

#[test]
fn intermediates_may_come_in_any_order_with_strangers_between() {
    let root = ca("root");
    let middle = intermediate("middle", &root, |_| {});
    let low = intermediate("low", &middle, |_| {});
    let chain = [
        leaf("pc1", &low, |_| {}),
        middle.der().to_vec(),
        ca("stranger").der().to_vec(),
        low.der().to_vec(),
    ];
    accepted(trust(&root).judge(&chain, NOW));
    rejected(
        trust(&root).judge(&chain[..1], NOW),
        "intermediates are missing",
    );
}

#[test]
fn the_id_is_the_field_that_the_ca_asks_for() {
    let root = ca("root");
    let leaf = leaf("pc1.corp", &root, |p| {
        p.distinguished_name.push(DnType::CommonName, "Alice Smith");
        p.subject_alt_names
            .push(SanType::URI("spiffe://corp/pc1".try_into().unwrap()));
        p.serial_number = Some(SerialNumber::from_slice(&[0x0a, 0xbc]));
    });
    let id = |field| {
        let trust = made(&settings(&[("corp", &root, field)])).unwrap();
        accepted(trust.judge(one(&leaf), NOW)).client_id
    };
    assert_eq!(id(IdField::DnsSan), "cert:corp/pc1.corp");
    assert_eq!(id(IdField::Cn), "cert:corp/Alice Smith");
    assert_eq!(id(IdField::UriSan), "cert:corp/spiffe://corp/pc1");
    assert_eq!(id(IdField::Serial), "cert:corp/0abc");
}

#[test]
fn without_a_dns_name_the_cn_stands_in_and_without_both_nobody() {
    let root = ca("root");
    let by_cn = leaf("pc1", &root, |p| p.subject_alt_names.clear());
    assert_eq!(
        accepted(trust(&root).judge(&[by_cn], NOW)).client_id,
        "cert:corp/pc1"
    );
    let nameless = leaf("pc1", &root, |p| {
        p.subject_alt_names.clear();
        p.distinguished_name = rcgen::DistinguishedName::new();
    });
    rejected(trust(&root).judge(one(&nameless), NOW), "no DNS name");
    for (field, reason) in [(IdField::Cn, "no CN"), (IdField::UriSan, "no URI")] {
        let trust = made(&settings(&[("corp", &root, field)])).unwrap();
        rejected(trust.judge(one(&nameless), NOW), reason);
    }
}

#[test]
fn a_name_that_could_break_a_header_is_rejected() {
    let root = ca("root");
    let trust = made(&settings(&[("corp", &root, IdField::Cn)])).unwrap();
    let cn = |cn: &str| {
        leaf("pc1", &root, |p| {
            p.distinguished_name
                .push(DnType::CommonName, DnValue::Utf8String(cn.to_string()));
        })
    };
    for bad in [
        "a\r\nTidegate-User: root",
        "a\0b",
        "tab\there",
        "\u{7f}",
        "Ärger",
        "a\u{202e}b",
    ] {
        rejected(trust.judge(&[cn(bad)], NOW), "printable ASCII");
    }
    for bad in [" a", "a ", " ", ""] {
        rejected(trust.judge(&[cn(bad)], NOW), "blank");
    }
    accepted(trust.judge(&[cn("a b/c:d\"e")], NOW));
}

#[test]
fn control_characters_in_a_dns_name_are_rejected() {
    let root = ca("root");
    // A DNS name as the library would never write it: dNSName [2] inside a hand-made subjectAltName.
    for name in [&b"pc1\r\nx"[..], b"pc1\0.corp", b"pc1 ", b"", b"\xff\xfe"] {
        let mut san = vec![0x30, name.len() as u8 + 2, 0x82, name.len() as u8];
        san.extend_from_slice(name);
        let leaf = leaf("pc1", &root, |p| {
            p.subject_alt_names.clear();
            p.custom_extensions
                .push(rcgen::CustomExtension::from_oid_content(
                    &[2, 5, 29, 17],
                    san,
                ));
        });
        let verdict = trust(&root).judge(&[leaf], NOW);
        assert!(
            matches!(verdict, Verdict::Rejected(_)),
            "{name:?}: {verdict:?}"
        );
    }
}

#[test]
fn a_client_id_has_an_end() {
    let root = ca("root");
    let trust = made(&settings(&[("corp", &root, IdField::Cn)])).unwrap();
    let cn = |n: usize| {
        leaf("pc1", &root, |p| {
            p.distinguished_name.push(DnType::CommonName, "x".repeat(n))
        })
    };
    let fits = super::MAX_CLIENT_ID_BYTES - "cert:corp/".len();
    assert_eq!(
        accepted(trust.judge(&[cn(fits)], NOW)).client_id.len(),
        super::MAX_CLIENT_ID_BYTES
    );
    rejected(trust.judge(&[cn(fits + 1)], NOW), "over 128 bytes");
    rejected(trust.judge(&[cn(5000)], NOW), "over 128 bytes");
}

#[test]
fn the_ca_that_issued_gives_the_name() {
    let (a, b) = (ca("a"), ca("b"));
    let trust = made(&settings(&[
        ("staff", &a, IdField::DnsSan),
        ("kiosks", &b, IdField::Cn),
    ]))
    .unwrap();
    assert_eq!(
        accepted(trust.judge(&[leaf("x", &a, |_| {})], NOW)).client_id,
        "cert:staff/x"
    );
    assert_eq!(
        accepted(trust.judge(&[leaf("x", &b, |_| {})], NOW)).client_id,
        "cert:kiosks/x"
    );
}

#[test]
fn a_denied_serial_or_client_is_revoked_however_it_is_written() {
    let root = ca("root");
    let serial = |p: &mut rcgen::CertificateParams| {
        p.serial_number = Some(SerialNumber::from_slice(&[0x0a, 0xbc, 0xde]))
    };
    let chain = [leaf("PC1.corp", &root, serial)];
    let judge = |serials: &[&str], clients: &[&str]| {
        let mut settings = settings(&[("corp", &root, IdField::DnsSan)]);
        settings.deny_serials = serials.iter().map(|s| s.to_string()).collect();
        settings.deny_clients = clients.iter().map(|s| s.to_string()).collect();
        made(&settings).unwrap().judge(&chain, NOW)
    };
    for denied in ["0ABCDE", "a:bc:de", "0x0abcde", "000ABCDE"] {
        assert!(
            matches!(judge(&[denied], &[]), Verdict::Revoked(_)),
            "{denied}"
        );
    }
    assert!(matches!(
        judge(&[], &["cert:corp/pc1.CORP"]),
        Verdict::Revoked(_)
    ));
    accepted(judge(
        &["abcd", "abcdef"],
        &["cert:corp/pc2", "pc1.corp", "cert:other/pc1.corp"],
    ));
}

#[test]
fn a_denied_client_that_is_invalid_anyway_is_rejected() {
    let root = ca("root");
    let mut settings = settings(&[("corp", &root, IdField::DnsSan)]);
    settings.deny_clients = vec!["cert:corp/pc1".into()];
    let trust = made(&settings).unwrap();
    rejected(
        trust.judge(&[leaf("pc1", &root, |_| {})], END + 1),
        "expired",
    );
}

#[test]
fn nothing_is_trusted_by_default() {
    let root = ca("root");
    rejected(
        Trust::default().judge(&[leaf("pc1", &root, |_| {})], NOW),
        "trusts no",
    );
    rejected(trust(&root).judge(&[], NOW), "no client certificate");
}

#[test]
fn junk_and_floods_are_rejected() {
    let root = ca("root");
    let trust = trust(&root);
    let good = leaf("pc1", &root, |_| {});
    assert!(matches!(trust.judge(&[vec![]], NOW), Verdict::Rejected(_)));
    assert!(matches!(
        trust.judge(&[vec![0x30; 60_000]], NOW),
        Verdict::Rejected(_)
    ));
    let long: Vec<_> = std::iter::repeat_n(good.clone(), super::MAX_CHAIN + 1).collect();
    rejected(trust.judge(&long, NOW), "certificates, over");
    // Every cut and every changed byte of a good certificate is refused or at least does not panic.
    for cut in 0..good.len() {
        assert!(
            matches!(
                trust.judge(&[good[..cut].to_vec()], NOW),
                Verdict::Rejected(_)
            ),
            "cut at {cut}"
        );
    }
    for at in 0..good.len() {
        let mut changed = good.clone();
        changed[at] ^= 0x01;
        assert!(
            matches!(trust.judge(&[changed], NOW), Verdict::Rejected(_)),
            "byte {at} changed"
        );
    }
    let mut longer = good;
    longer.push(0);
    assert!(matches!(trust.judge(&[longer], NOW), Verdict::Rejected(_)));
}

#[test]
fn times_before_1970_are_no_time() {
    let root = ca("root");
    rejected(
        trust(&root).judge(&[leaf("pc1", &root, |_| {})], i64::MIN),
        "not valid yet",
    );
}

#[test]
fn what_is_published_as_a_ca_must_be_one() {
    let root = ca("root");
    let publish = |pem: String| {
        let mut settings = settings(&[("corp", &root, IdField::DnsSan)]);
        settings.client_ca[0].pem = pem;
        made(&settings).map(|_| ())
    };
    let not_a_ca = pem::canonical(&[leaf("pc1", &root, |_| {}).into()]);
    assert!(publish(not_a_ca).unwrap_err().contains("not a CA"));
    assert!(
        publish(KeyPair::generate().unwrap().serialize_pem())
            .unwrap_err()
            .contains("no certificate")
    );
    assert!(publish("".into()).unwrap_err().contains("no certificate"));
    let cannot_sign = ca_with("root", |p| {
        p.key_usages = vec![KeyUsagePurpose::DigitalSignature]
    });
    assert!(
        publish(cannot_sign.pem())
            .unwrap_err()
            .contains("may not sign")
    );
    assert_eq!(
        publish(root.pem() + &root.pem()),
        Ok(()),
        "the same one twice under one name"
    );
}

#[test]
fn one_ca_has_one_name() {
    let root = ca("root");
    let twice = settings(&[("a", &root, IdField::DnsSan), ("b", &root, IdField::Cn)]);
    assert!(
        made(&twice)
            .unwrap_err()
            .contains("published as \"a\" already")
    );
}
