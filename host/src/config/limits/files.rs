//! The bounds of files that are read whole.

/// Octets of the files that are read whole.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Files {
    /// Octets of a configuration file: one line for each of ten thousand recipients.
    pub config: u64,
    /// Files in `conf.d`: a configuration by hand has some ten.
    pub configs: usize,
    /// Octets of a file of certificates, or of a key in PEM: the system's own bundle of roots has 220 KiB.
    pub pem: u64,
    /// Octets of a file that holds a secret: a key, a token, a password.
    pub secret: u64,
    /// Octets of a message that the demonstration takes: Postfix's own bound is 10 MB.
    pub demo: u64,
}

impl Default for Files {
    fn default() -> Files {
        Files { config: 1024 * 1024, configs: 100, pem: 1024 * 1024, secret: 4_096, demo: 64 * 1024 * 1024 }
    }
}
