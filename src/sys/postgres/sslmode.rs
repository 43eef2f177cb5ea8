//! libpq's `sslmode`.

/// Whether a connection is encrypted and what is verified, with libpq's meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SslMode {
    /// Never encrypted.
    Disable,
    /// Encrypted only if the server insists.
    Allow,
    /// Encrypted if the server can.
    Prefer,
    /// Encrypted; the server is not verified, unless there is a file of root certificates.
    Require,
    /// Encrypted; the certificate is verified, its name is not.
    VerifyCa,
    /// Encrypted; certificate and name are verified.
    VerifyFull,
}

impl SslMode {
    /// All of them, weakest first.
    pub const ALL: [Self; 6] =
        [Self::Disable, Self::Allow, Self::Prefer, Self::Require, Self::VerifyCa, Self::VerifyFull];

    /// As in `PGSSLMODE`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Allow => "allow",
            Self::Prefer => "prefer",
            Self::Require => "require",
            Self::VerifyCa => "verify-ca",
            Self::VerifyFull => "verify-full",
        }
    }
}
