//! Certificates for tests: a private root, and what it signs, in files.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use addrauth::config::Tls;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

/// A private root, whose files live as long as it does.
pub struct Root {
    dir: tempfile::TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Default for Root {
    fn default() -> Root {
        Root::new()
    }
}

impl Root {
    /// Makes a root that nobody else trusts.
    pub fn new() -> Root {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "a root of the tests");
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("root.pem"), issuer.pem()).unwrap();
        Root { dir, issuer }
    }

    /// The file of the root's certificate: what `verify.tls_roots` names.
    pub fn file(&self) -> PathBuf {
        self.dir.path().join("root.pem")
    }

    /// Certificate and key for this host, for ninety days: what `[authority.tls]` names.
    pub fn issue(&self, host: &str) -> Tls {
        self.issue_until(host, SystemTime::now() + Duration::from_secs(90 * 86_400))
    }

    /// The same, until then. A second one for the same host takes the place of the first.
    pub fn issue_until(&self, host: &str, ends: SystemTime) -> Tls {
        let mut params = CertificateParams::new([host.to_owned()]).unwrap();
        params.not_before = (SystemTime::now() - Duration::from_secs(200 * 86_400)).into();
        params.not_after = ends.into();
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let file = |end: &str| self.dir.path().join(format!("{host}.{end}"));
        let tls = Tls { certificate: file("pem"), key: file("key") };
        write(&tls.certificate, &certificate.pem());
        write(&tls.key, &key.serialize_pem());
        tls
    }
}

/// Another file under the same name, as those who renew certificates do it.
fn write(path: &Path, text: &str) {
    let beside = path.with_extension("new");
    std::fs::write(&beside, text).unwrap();
    std::fs::rename(&beside, path).unwrap();
}
