//! Where the parent VM has what the lab puts there and what its services write.

/// This program.
pub const LAB: &str = "/payload/bin/lab";
/// The signer's client.
pub const WALLET: &str = "/payload/bin/wallet";
/// The parent's daemon, where an instance has it.
pub const WG_SERVER: &str = "/usr/local/bin/wg-server";
/// The script that reports an instance as unhealthy, where an instance has it.
pub const INSTANCE_UNHEALTHY: &str = "/usr/local/bin/instance-unhealthy";
/// The stand-in for nitro-cli, where AWS's is on an instance.
pub const NITRO_CLI: &str = "/usr/bin/nitro-cli";
/// The stand-in for KMS.
pub const KMS: &str = "/payload/bin/kms-stand-in";
/// moto's program.
pub const AWS: &str = "/payload/bin/aws.py";
/// What stands before moto's S3, which the above imports.
pub const S3: &str = "/payload/bin/s3.py";
/// While it exists, S3 fails as it says.
pub const S3_FAULT_PATH: &str = "/run/lab/internet/s3-faults";

/// The lab's files that change.
pub const RUN_DIR: &str = "/run/lab";
/// Logs outside of the journal.
pub const LOG_DIR: &str = "/var/log/lab";
/// Files of the servers in the lab's internet.
pub const INTERNET_DIR: &str = "/run/lab/internet";
/// The socket that ssh forwards to a development chain on the host.
pub const CHAIN_SOCKET_PATH: &str = "/run/lab/chain.sock";
/// wg-server's runtime folder on the gateway of blind mode.
pub const GATEWAY_RUNTIME_DIR: &str = "/run/wg-gateway";

/// The certificate authority for the names of AWS's servers in the lab's internet.
pub const WEB_CA_PATH: &str = "/payload/web-ca.pem";
/// The root of the lab's attestation documents.
pub const ROOT_PATH: &str = "/etc/wg-server/lab-root.pem";
/// Measurements of the image that wg-server accepts.
pub const MEASUREMENTS_PATH: &str = "/etc/wg-server/measurements.json";
/// The same for the gateway of blind mode.
pub const GATEWAY_MEASUREMENTS_PATH: &str = "/etc/wg-gateway/measurements.json";
/// Configuration of the relay of blind mode.
pub const RELAY_CONFIG_PATH: &str = "/etc/wg-server/relay.toml";
/// Configuration of the gateway of blind mode.
pub const GATEWAY_CONFIG_PATH: &str = "/etc/wg-gateway/gateway.toml";
/// Configuration of wg-server.
pub const PARENT_CONFIG_PATH: &str = "/etc/wg-server/parent.toml";
/// The WireGuard key of wg-server.
pub const PRIVATE_KEY_PATH: &str = "/etc/wg-server/private.key";
/// The WireGuard key of the gateway of blind mode.
pub const GATEWAY_PRIVATE_KEY_PATH: &str = "/etc/wg-gateway/private.key";
/// The parent's DNS queries, as BIND logs them.
pub const QUERY_LOG_PATH: &str = "/var/log/wg-server/query.log";
/// Configuration of the stand-in for KMS, beside the files that it names.
pub const KMS_CONFIG_PATH: &str = "/run/lab/internet/kms.toml";
/// The policy of the KMS key.
pub const KEY_POLICY_PATH: &str = "/run/lab/internet/key-policy.json";
/// A fault of the stand-in for KMS, while the file exists.
pub const KMS_FAULT_PATH: &str = "/run/lab/internet/kms-fault.toml";
/// The allocator's configuration.
pub const ALLOCATOR_PATH: &str = "/etc/nitro_enclaves/allocator.yaml";
