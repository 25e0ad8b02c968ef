//! JSON-RPC 2.0, as Ethereum's clients speak it: `POST /` with `jsonrpc` in the body.
//!
//! ```json
//! {"jsonrpc": "2.0", "id": 1, "method": "eth_signTransaction", "params": [{"from": "0x…", "to": "0x…", "gas": "0x5208", …}]}
//! {"jsonrpc": "2.0", "id": 1, "result": "0x02f8…"}
//! {"jsonrpc": "2.0", "id": 1, "error": {"code": -32010, "message": "policy rule max_value: …", "data": {…}}}
//! ```
//!
//! | module | what it owns |
//! |---|---|
//! | [`envelope`] | a body becomes calls: one, or a batch |
//! | [`params`] | a call's parameters, by position or by name |
//! | [`signing`] | the parameters of methods that sign messages, typed data and authorisations |
//! | [`transaction`] | the object that describes a transaction |
//! | [`answer`] | results and errors around the caller's `id` |
//! | [`signed`] | a signed transaction as geth shows it |
//! | [`error`] | the codes |
//!
//! Unknown fields, fields written twice and other forms of a value are refused by name. A null is an absent value.

pub mod answer;
pub mod envelope;
pub mod error;
pub mod params;
pub mod signed;
pub mod signing;
pub mod transaction;

mod quantity;

pub use envelope::{Body, Call, Id, is_rpc};
pub use error::RpcError;
pub use params::Params;
pub use quantity::{quantity, read_quantity};
pub use signing::Signing;
pub use transaction::TransactionCall;

/// The most calls of a batch.
pub const MAX_BATCH: usize = 100;
