//! A PKI as people make it, by the real `openssl`: keys, certificates with any extension and any flaw, revocation lists.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Extensions of a client's certificate that does.
pub const LEAF: &str = "basicConstraints=critical,CA:false\nkeyUsage=critical,digitalSignature\nextendedKeyUsage=clientAuth\n";
/// Extensions of a CA.
pub const CA: &str = "basicConstraints=critical,CA:true\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash\n";

/// Files in one folder: `NAME.pem` certificates, `NAME.key` keys, `NAME.crl` lists.
pub struct Ca {
    dir: PathBuf,
}

/// One certificate to be.
pub struct Wish<'a> {
    name: &'a str,
    subject: String,
    key: &'a str,
    issuer: Option<(&'a str, &'a str)>,
    extensions: String,
    serial: String,
    digest: &'a str,
    dates: Option<(&'a str, &'a str)>,
}

impl<'a> Wish<'a> {
    /// A client certificate of that name as CN, by the CA (certificate and key).
    pub fn leaf(name: &'a str, key: &'a str, ca: &'a str, ca_key: &'a str) -> Wish<'a> {
        Wish {
            name,
            subject: format!("/CN={name}"),
            key,
            issuer: Some((ca, ca_key)),
            extensions: LEAF.into(),
            serial: format!("0x{:016X}", fastrand::u64(1..1 << 62)),
            digest: "sha256",
            dates: None,
        }
    }

    /// A CA, by another one.
    pub fn sub(name: &'a str, key: &'a str, ca: &'a str, ca_key: &'a str) -> Wish<'a> {
        Wish::leaf(name, key, ca, ca_key).with(CA)
    }

    /// A CA, by itself.
    pub fn root(name: &'a str, key: &'a str) -> Wish<'a> {
        Wish {
            issuer: None,
            ..Wish::leaf(name, key, "", "").with(CA)
        }
    }

    /// These extensions in place of the usual ones.
    pub fn with(mut self, extensions: &str) -> Wish<'a> {
        self.extensions = extensions.into();
        self
    }

    /// One more extension.
    pub fn and(mut self, extension: &str) -> Wish<'a> {
        self.extensions += extension;
        self.extensions += "\n";
        self
    }

    /// As openssl's `-subj`: `/CN=…`, or `/` for none.
    pub fn subject(mut self, subject: &str) -> Wish<'a> {
        self.subject = subject.into();
        self
    }

    pub fn serial(mut self, serial: &str) -> Wish<'a> {
        self.serial = serial.into();
        self
    }

    pub fn digest(mut self, digest: &'a str) -> Wish<'a> {
        self.digest = digest;
        self
    }

    /// Begin and end, YYYYMMDDHHMMSSZ.
    pub fn dates(mut self, begin: &'a str, end: &'a str) -> Wish<'a> {
        self.dates = Some((begin, end));
        self
    }
}

impl Ca {
    pub fn new(dir: &Path) -> Ca {
        let dir = dir.to_owned();
        Ca { dir }
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// `openssl …` in the folder; it must succeed.
    #[track_caller]
    pub fn openssl(&self, arguments: &[&str]) {
        let done = Command::new("openssl")
            .args(arguments)
            .current_dir(&self.dir)
            .output()
            .expect("openssl");
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "openssl {arguments:?}: {said}");
    }

    /// A key: `openssl genpkey` options behind `-algorithm`.
    pub fn key(&self, name: &str, algorithm: &str) {
        let file = format!("{name}.key");
        let mut arguments = vec!["genpkey", "-out", &file, "-algorithm"];
        arguments.extend(algorithm.split(' '));
        self.openssl(&arguments);
        let public = format!("{name}.pub");
        self.openssl(&["pkey", "-in", &file, "-pubout", "-out", &public]);
    }

    /// Makes the certificate.
    #[track_caller]
    pub fn make(&self, wish: Wish<'_>) {
        let name = wish.name;
        let (out, config) = (format!("{name}.pem"), format!("{name}.cnf"));
        let settings = format!(
            "[ca]\ndefault_ca = d\n[d]\ndatabase = {name}.index\nnew_certs_dir = .\nserial = {name}.serial\n\
             default_md = {digest}\npolicy = p\nunique_subject = no\n[p]\ncommonName = optional\n[x]\n{extensions}",
            digest = wish.digest,
            extensions = wish.extensions,
        );
        fs::write(self.file(&config), settings).expect("a config file");
        let (key, public) = (format!("{}.key", wish.key), format!("{}.pub", wish.key));
        let ca = wish
            .issuer
            .map(|(ca, key)| (format!("{ca}.pem"), format!("{key}.key")));
        if let Some((begin, end)) = wish.dates {
            return self.make_dated(&wish, begin, end);
        }
        let digest = format!("-{}", wish.digest);
        let mut arguments = vec![
            "x509",
            "-new",
            "-subj",
            &wish.subject,
            "-force_pubkey",
            &public,
            "-days",
            "30",
            &digest,
            "-extfile",
            &config,
            "-extensions",
            "x",
            "-out",
            &out,
            "-set_serial",
            &wish.serial,
        ];
        match &ca {
            Some((ca, ca_key)) => arguments.extend(["-CA", ca, "-CAkey", ca_key]),
            None => arguments.extend(["-signkey", &key]),
        }
        self.openssl(&arguments);
    }

    fn make_dated(&self, wish: &Wish<'_>, begin: &str, end: &str) {
        let name = wish.name;
        let (key, request) = (format!("{}.key", wish.key), format!("{name}.csr"));
        let (config, out) = (format!("{name}.cnf"), format!("{name}.pem"));
        self.openssl(&[
            "req",
            "-new",
            "-key",
            &key,
            "-subj",
            &wish.subject,
            "-out",
            &request,
        ]);
        fs::write(self.file(&format!("{name}.index")), "").expect("a database");
        let mut arguments = vec![
            "ca",
            "-config",
            &config,
            "-batch",
            "-notext",
            "-rand_serial",
            "-in",
            &request,
            "-startdate",
            begin,
            "-enddate",
            end,
            "-extensions",
            "x",
            "-out",
            &out,
        ];
        let ca = wish
            .issuer
            .map(|(ca, key)| (format!("{ca}.pem"), format!("{key}.key")));
        match &ca {
            Some((ca, ca_key)) => arguments.extend(["-cert", ca, "-keyfile", ca_key]),
            None => arguments.extend(["-selfsign", "-keyfile", &key]),
        }
        self.openssl(&arguments);
    }

    /// The certificate `from` with these bytes in place of others of the same length, signed again (ECDSA, SHA-256).
    #[track_caller]
    pub fn patch(&self, name: &str, from: &str, key: &str, old: &[u8], new: &[u8]) {
        assert_eq!(old.len(), new.len());
        let (pem, der) = (format!("{from}.pem"), format!("{name}.der"));
        self.openssl(&["x509", "-in", &pem, "-outform", "DER", "-out", &der]);
        let certificate = fs::read(self.file(&der)).expect("DER");
        let (_, inner) = element(&certificate);
        let (tbs, rest) = inner.split_at(element(inner).0);
        let mut tbs = tbs.to_vec();
        // The subject stands behind an issuer that may look the same.
        let at = tbs.windows(old.len()).rposition(|window| window == old);
        let at = at.expect("the bytes are there");
        tbs[at..at + new.len()].copy_from_slice(new);
        let algorithm = &rest[..element(rest).0];
        fs::write(self.file("tbs"), &tbs).expect("a file");
        let key = format!("{key}.key");
        self.openssl(&["dgst", "-sha256", "-sign", &key, "-out", "tbs.sig", "tbs"]);
        let mut signature = vec![0];
        signature.extend(fs::read(self.file("tbs.sig")).expect("a signature"));
        let inner = [&tbs, algorithm, &wrap(0x03, &signature)].concat();
        fs::write(self.file(&der), wrap(0x30, &inner)).expect("DER");
        let out = format!("{name}.pem");
        // Not by `openssl x509`, which reads what it writes.
        let base64 = format!("{name}.base64");
        self.openssl(&["base64", "-in", &der, "-out", &base64]);
        let text = fs::read_to_string(self.file(&base64)).expect("base64");
        let text = format!("-----BEGIN CERTIFICATE-----\n{text}-----END CERTIFICATE-----\n");
        fs::write(self.file(&out), text).expect("PEM");
    }

    /// Several PEM files in one.
    pub fn join(&self, out: &str, names: &[&str]) {
        let text: String = names
            .iter()
            .map(|name| fs::read_to_string(self.file(&format!("{name}.pem"))).expect("PEM"))
            .collect();
        fs::write(self.file(&format!("{out}.pem")), text).expect("PEM");
    }

    /// The CA's list with this number that names these serials (hex), good for `seconds`: `NAME.crl`, PEM, and its DER.
    #[track_caller]
    pub fn list<S: AsRef<str>>(
        &self,
        name: &str,
        (ca, key): (&str, &str),
        number: u32,
        serials: impl IntoIterator<Item = S>,
        seconds: u32,
    ) -> Vec<u8> {
        let mut index = String::new();
        for serial in serials {
            let serial = serial.as_ref();
            index += &format!("R\t400101000000Z\t260101000000Z\t{serial}\tunknown\t/CN=x\n");
        }
        let text = format!(
            "[ca]\ndefault_ca = d\n[d]\ndatabase = {name}.index\ncrlnumber = {name}.number\ndefault_md = sha256\n"
        );
        fs::write(self.file(&format!("{name}.cnf")), text).expect("a config file");
        fs::write(self.file(&format!("{name}.index")), index).expect("a database");
        fs::write(
            self.file(&format!("{name}.number")),
            format!("{number:04X}\n"),
        )
        .expect("a number");
        let (config, out) = (format!("{name}.cnf"), format!("{name}.crl"));
        let (ca, key) = (format!("{ca}.pem"), format!("{key}.key"));
        let seconds = seconds.to_string();
        self.openssl(&[
            "ca", "-gencrl", "-config", &config, "-cert", &ca, "-keyfile", &key, "-crlsec",
            &seconds, "-out", &out,
        ]);
        let der = format!("{name}.der");
        self.openssl(&["crl", "-in", &out, "-outform", "DER", "-out", &der]);
        fs::read(self.file(&der)).expect("DER")
    }
}

/// The length of the DER element that begins here, and its contents.
fn element(der: &[u8]) -> (usize, &[u8]) {
    let (head, length) = match der[1] {
        short @ 0..=0x7f => (2, usize::from(short)),
        long => {
            let count = usize::from(long & 0x7f);
            let bytes = &der[2..2 + count];
            (
                2 + count,
                bytes
                    .iter()
                    .fold(0, |sum, byte| sum << 8 | usize::from(*byte)),
            )
        }
    };
    (head + length, &der[head..head + length])
}

/// Contents as an element of this tag.
fn wrap(tag: u8, contents: &[u8]) -> Vec<u8> {
    let length = u32::try_from(contents.len()).expect("a short element");
    // As short as DER wants it.
    let bytes = length.to_be_bytes();
    let bytes = &bytes[bytes.iter().take_while(|byte| **byte == 0).count().min(3)..];
    let mut out = vec![tag];
    if length > 0x7f {
        out.push(0x80 | bytes.len() as u8);
    }
    [&out, bytes, contents].concat()
}
