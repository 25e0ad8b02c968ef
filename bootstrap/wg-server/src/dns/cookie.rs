//! DNS server cookies (RFC 7873, RFC 9018). Only a name server that has our secret can make them, so they identify our named.
//! The secret is new at each start of wg-server, and no answer discloses it.
//!
//! The server's cookie, after the client's own 8 bytes:
//!
//! | offset | bytes | meaning                                                                          |
//! |--------|-------|----------------------------------------------------------------------------------|
//! | 0      | 1     | version, 1                                                                       |
//! | 1      | 3     | zero                                                                             |
//! | 4      | 4     | seconds since 1970, big endian                                                   |
//! | 8      | 8     | SipHash-2-4 of the client's cookie, the 8 bytes above, and the client's address  |

use std::fmt;
use std::hash::Hasher;
use std::net::IpAddr;

/// The secret that only named and wg-server have.
#[derive(Clone, Copy)]
pub(super) struct Secret([[u8; 8]; 2]);

/// A client's cookie.
pub(super) type ClientCookie = [u8; 8];

impl Secret {
    pub(super) fn random() -> Self {
        Self(rand::random())
    }

    /// As named.conf contains it.
    pub(super) fn expose_as_hex(&self) -> String {
        const_hex::encode(self.0.as_flattened())
    }

    /// Whether this cookie was made with the secret, for this client.
    pub(super) fn made(&self, server_cookie: &[u8], client_cookie: ClientCookie, client: IpAddr) -> bool {
        let Some((head, hash)) = server_cookie.split_first_chunk::<8>() else { return false };
        head.starts_with(&[1, 0, 0, 0]) && hash == self.hash(&client_cookie, head, client)
    }

    fn hash(&self, client_cookie: &ClientCookie, head: &[u8; 8], client: IpAddr) -> [u8; 8] {
        let [low, high] = self.0.map(u64::from_le_bytes);
        #[expect(
            deprecated,
            reason = "the standard library's SipHash-2-4; what replaces it for hash tables is another function"
        )]
        let mut hasher = std::hash::SipHasher::new_with_keys(low, high);
        hasher.write(client_cookie);
        hasher.write(head);
        match client {
            IpAddr::V4(address) => hasher.write(&address.octets()),
            IpAddr::V6(address) => hasher.write(&address.octets()),
        }
        hasher.finish().to_le_bytes()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 9018, appendix A.1 and A.3.
    #[test]
    fn cookies_are_those_of_the_standard() {
        let secret = Secret([
            [0xe5, 0xe9, 0x73, 0xe5, 0xa6, 0xb2, 0xa4, 0x3f],
            [0x48, 0xe7, 0xdc, 0x84, 0x9e, 0x37, 0xbf, 0xcf],
        ]);
        let client = "198.51.100.100".parse().unwrap();
        let client_cookie = [0x24, 0x64, 0xc4, 0xab, 0xcf, 0x10, 0xc9, 0x57];
        let cookie = [0x01, 0x00, 0x00, 0x00, 0x5c, 0xf7, 0x9f, 0x11, 0x1f, 0x81, 0x30, 0xc3, 0xee, 0xe2, 0x94, 0x80];
        assert!(secret.made(&cookie, client_cookie, client));
        assert!(!secret.made(&cookie, client_cookie, "198.51.100.101".parse().unwrap()), "another client");
        assert!(!secret.made(&cookie, [0; 8], client), "another question");
        assert!(!Secret([[0; 8]; 2]).made(&cookie, client_cookie, client), "another server");
        assert!(!secret.made(&[], client_cookie, client));
        assert!(!secret.made(&cookie[..15], client_cookie, client));
    }
}
