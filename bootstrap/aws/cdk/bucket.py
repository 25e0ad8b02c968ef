"""The ledger's bucket: objects are written once, and stay for their retention, whoever asks for what."""

from aws_cdk import CfnOutput, Duration, RemovalPolicy, Stack
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_iam as iam
from aws_cdk import aws_s3 as s3

from lint import accept
from settings import LedgerSettings

# An enclave writes one object for each key, chain and nonce, and one for each slice of a spending window.
NONCES, LEASES = "nonce/*", "lease/*"
WRITE_AND_READ = ["s3:PutObject", "s3:PutObjectRetention", "s3:GetObject", "s3:GetObjectVersion"]
INSPECT = ["s3:ListBucketVersions", "s3:GetBucketVersioning", "s3:GetBucketObjectLockConfiguration"]
# By which a role could take objects away, or what keeps them. The role has none of them; this outlives a policy added to it.
ENDING = [
    "s3:BypassGovernanceRetention",
    "s3:DeleteBucket",
    "s3:DeleteBucketPolicy",
    "s3:DeleteObject",
    "s3:DeleteObjectVersion",
    "s3:PutBucketAcl",
    "s3:PutBucketObjectLockConfiguration",
    "s3:PutBucketOwnershipControls",
    "s3:PutBucketPolicy",
    "s3:PutBucketPublicAccessBlock",
    "s3:PutBucketVersioning",
    "s3:PutEncryptionConfiguration",
    "s3:PutLifecycleConfiguration",
    "s3:PutObjectAcl",
    "s3:PutObjectLegalHold",
    "s3:PutReplicationConfiguration",
    "s3:ReplicateDelete",
    "s3:ReplicateObject",
]
# Twice the longest window of a policy, 31 days: no lease counts any more.
LEASE_DAYS = 62
GIB = 1 << 30


def add(stack: Stack, settings: LedgerSettings, role: iam.Role) -> cloudwatch.CfnAlarm:
    """Adds the bucket, what the role may do with it, and the alarm on its size."""
    bucket = s3.Bucket(
        stack,
        "Ledger",
        bucket_name=settings.bucket,
        versioned=True,
        # The mode and the time come with each object.
        object_lock_enabled=True,
        encryption=s3.BucketEncryption.S3_MANAGED,
        block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
        object_ownership=s3.ObjectOwnership.BUCKET_OWNER_ENFORCED,
        enforce_ssl=True,
        removal_policy=RemovalPolicy.RETAIN,
        lifecycle_rules=[
            s3.LifecycleRule(
                id="expired-leases",
                prefix=LEASES.removesuffix("*"),
                expiration=Duration.days(LEASE_DAYS),
                noncurrent_version_expiration=Duration.days(1),
                abort_incomplete_multipart_upload_after=Duration.days(1),
            ),
            s3.LifecycleRule(id="markers-of-expired-leases", prefix=LEASES.removesuffix("*"), expired_object_delete_marker=True),
        ],
    )
    accept(
        bucket,
        "Each object is a record of its own, which stays with its version and its time; a trail's data events add who wrote it",
        "AwsSolutions-S1",
        "CKV_AWS_18",
    )
    everything = bucket.arn_for_objects("*")
    for sid, principal, actions, conditions in (
        # So that a compromised parent cannot fill the bucket for ever.
        (
            "NoLongerThanTheCap",
            iam.AnyPrincipal(),
            ["s3:PutObject", "s3:PutObjectRetention"],
            # An enclave counts 366 days a year by its own clock.
            {"NumericGreaterThan": {"s3:object-lock-remaining-retention-days": settings.max_retention_years * 366 + 1}},
        ),
        # An object without a mode has no key of this name, and is denied as well.
        (
            "ComplianceAlone",
            iam.AnyPrincipal(),
            ["s3:PutObject", "s3:PutObjectRetention"],
            {"StringNotEquals": {"s3:object-lock-mode": "COMPLIANCE"}},
        ),
        ("NothingEndsByTheInstance", iam.ArnPrincipal(role.role_arn), ENDING, {}),
    ):
        bucket.add_to_resource_policy(
            iam.PolicyStatement(
                sid=sid,
                effect=iam.Effect.DENY,
                principals=[principal],
                actions=actions,
                resources=[bucket.bucket_arn, everything] if sid == "NothingEndsByTheInstance" else [everything],
                conditions=conditions,
            )
        )
    policy = iam.Policy(
        stack,
        "UseLedger",
        roles=[role],
        statements=[
            iam.PolicyStatement(
                actions=WRITE_AND_READ, resources=[bucket.arn_for_objects(NONCES), bucket.arn_for_objects(LEASES)]
            ),
            iam.PolicyStatement(actions=INSPECT, resources=[bucket.bucket_arn]),
        ],
    )
    findings = [
        f"AwsSolutions-IAM5[Resource::<{stack.get_logical_id(bucket.node.default_child)}.Arn>/{each}]"
        for each in (NONCES, LEASES)
    ]
    accept(policy, "Each object has a name of its own", *findings)
    CfnOutput(stack, "LedgerBucket", value=bucket.bucket_name, description="signer.ledger.bucket in enclave.toml")
    return cloudwatch.CfnAlarm(
        stack,
        "LedgerSize",
        alarm_description=f"The signer's ledger has more than {settings.alarm_gib} GiB: does somebody fill it?",
        namespace="AWS/S3",
        metric_name="BucketSizeBytes",
        dimensions=[
            cloudwatch.CfnAlarm.DimensionProperty(name="BucketName", value=bucket.bucket_name),
            cloudwatch.CfnAlarm.DimensionProperty(name="StorageType", value="StandardStorage"),
        ],
        statistic="Maximum",
        # S3 measures once a day.
        period=86400,
        evaluation_periods=1,
        threshold=settings.alarm_gib * GIB,
        comparison_operator="GreaterThanThreshold",
        treat_missing_data="notBreaching",
    )
