//! The certificate authorities trusted for AWS's servers.

use std::fmt;

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{self, PemObject as _};
use thiserror::Error;

/// The five roots of Amazon Trust Services, from which all of AWS's certificates come. A test compares them with the
/// hashes that are published at <https://www.amazontrust.com/repository/>.
const AMAZON: &[u8] = include_bytes!("amazon-roots.pem");

/// The certificate authorities that servers are checked against; those of the operating system are never asked.
#[derive(Clone, PartialEq, Eq)]
pub struct Roots {
    pem: Vec<u8>,
    count: usize,
}

/// Why a file holds no [`Roots`].
#[derive(Debug, Error)]
pub enum RootsError {
    /// No PEM.
    #[error("not PEM")]
    Pem(#[from] pem::Error),
    /// PEM without a certificate.
    #[error("no certificate in it")]
    Empty,
    /// A certificate that cannot be a root.
    #[error("certificate {0} in it")]
    Certificate(usize, #[source] rustls::Error),
}

impl Roots {
    /// Amazon's own.
    ///
    /// # Panics
    /// Never: a test reads the certificates, which are part of this crate.
    #[must_use]
    pub fn amazon() -> Self {
        Self::from_pem(AMAZON.to_vec()).expect("a test reads these very certificates")
    }

    /// Other authorities than Amazon's, so the servers are not AWS's.
    ///
    /// # Errors
    /// Anything but certificates in PEM, at least one.
    pub fn from_pem(pem: Vec<u8>) -> Result<Self, RootsError> {
        let mut store = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            store.add(certificate?).map_err(|error| RootsError::Certificate(store.len() + 1, error))?;
        }
        let count = store.len();
        if count == 0 { Err(RootsError::Empty) } else { Ok(Self { pem, count }) }
    }

    /// Whether they are those that this crate carries.
    #[must_use]
    pub fn are_amazons(&self) -> bool {
        self.pem == AMAZON
    }

    pub(crate) fn pem(&self) -> &[u8] {
        &self.pem
    }
}

impl fmt::Display for Roots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.are_amazons() {
            write!(f, "Amazon's {} roots", self.count)
        } else {
            write!(f, "NOT Amazon's roots but {} of the configuration's", self.count)
        }
    }
}

impl fmt::Debug for Roots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::digest::{SHA256, digest};

    use super::*;

    #[test]
    fn amazons_roots_are_those_that_amazon_publishes() {
        let published = [
            "8ecde6884f3d87b1125ba31ac3fcb13d7016de7f57cc904fe1cb97c6ae98196e",
            "1ba5b2aa8c65401a82960118f80bec4f62304d83cec4713a19c39c011ea46db4",
            "18ce6cfe7bf14e60b2e347b8dfe868cb31d02ebb3ada271569f50343b46db3a4",
            "e35d28419ed02025cfa69038cd623962458da5c695fbdea3c22b0bfb25897092",
            "568d6905a2c88708a4b3025190edcfedb1974a606a13c6e5290fcb2ae63edab5",
        ];
        let roots =
            CertificateDer::pem_slice_iter(AMAZON).map(|root| const_hex::encode(digest(&SHA256, &root.unwrap())));
        assert_eq!(roots.collect::<Vec<_>>(), published);
        assert!(Roots::amazon().are_amazons());
        assert_eq!(Roots::amazon().to_string(), "Amazon's 5 roots");
    }

    #[test]
    fn other_roots_say_that_they_are_others() {
        let one = rcgen::generate_simple_self_signed(["lab".to_owned()]).unwrap().cert.pem();
        let roots = Roots::from_pem(one.into_bytes()).unwrap();
        assert!(!roots.are_amazons());
        assert_eq!(roots.to_string(), "NOT Amazon's roots but 1 of the configuration's");
    }

    #[test]
    fn what_holds_no_certificate_is_refused() {
        let broken = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
        let unended = "-----BEGIN CERTIFICATE-----\nMAA=\n";
        assert!(matches!(Roots::from_pem(Vec::new()), Err(RootsError::Empty)));
        assert!(matches!(Roots::from_pem(broken.into()), Err(RootsError::Certificate(1, _))));
        assert!(matches!(Roots::from_pem(unended.into()), Err(RootsError::Pem(_))));
    }
}
