"""What a parent instance is made from: its files, its role, its first boot, and the properties that all of them have."""

import hashlib
from pathlib import Path
from typing import Any

from aws_cdk import CfnWaitCondition, CfnWaitConditionHandle, Stack, Stage
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam
from aws_cdk import aws_s3_assets as s3_assets
from constructs import IDependable

from image import Image
from key_stack import KeyStack
from parent import Delivery, archive, deliveries, user_data
from settings import Settings

# More than the sum of user-data.sh's time limits.
BOOTS_WITHIN_SECONDS = 1800
METADATA_OPTIONS = {
    "http_endpoint": "enabled",
    "http_tokens": "required",
    # The enclave is one hop behind the parent.
    "http_put_response_hop_limit": 2,
}
DEVICE = "/dev/xvda"
DISK = {"encrypted": True, "volume_type": "gp3", "volume_size": 16, "delete_on_termination": True}


class Machine:
    """A parent instance, before it is one."""

    def __init__(self, stack: Stack, settings: Settings, image: Image, key: KeyStack) -> None:
        self.stack, self.settings, self.image = stack, settings, image
        work_dir = Path(Stage.of(stack).asset_outdir)
        files = deliveries(settings, image, work_dir)
        self.packed = archive(files, work_dir)
        self.asset = s3_assets.Asset(stack, "Files", path=str(self.packed.path))
        # Everything that the first boot needs, but for the route to the internet.
        self.needs: list[IDependable] = [self.read_files(key), key]
        self.profile = iam.CfnInstanceProfile(stack, "Profile", roles=[key.instance_role.role_name])
        self.digest = digest(settings, files)
        self.ami_id = settings.ami_id or ec2.MachineImage.latest_amazon_linux2023().get_image(stack).image_id

    def read_files(self, key: KeyStack) -> iam.Policy:
        """Lets the role read the archive."""
        arn = self.asset.bucket.arn_for_objects(self.asset.s3_object_key)
        statement = iam.PolicyStatement(actions=["s3:GetObject"], resources=[arn])
        return iam.Policy(self.stack, "ReadFiles", roles=[key.instance_role], statements=[statement])

    def reason(self, logical_id: str, within_seconds: int) -> tuple[CfnWaitCondition, CfnWaitConditionHandle]:
        """Its event shows why a first boot failed; no event shows the reason of an instance's own signal."""
        handle = CfnWaitConditionHandle(self.stack, "ReasonHandle")
        handle.override_logical_id(f"{logical_id}ReasonHandle")
        reason = CfnWaitCondition(self.stack, "Reason", handle=handle.ref, count=1, timeout=str(within_seconds))
        reason.override_logical_id(f"{logical_id}Reason")
        return reason, handle

    def script(self, resource: str, handle: CfnWaitConditionHandle, more: dict[str, str]) -> str:
        """The first boot, which signals this resource."""
        return user_data(
            {
                "STACK": self.stack.stack_name,
                "RESOURCE": resource,
                "HANDLE": handle.ref,
                "AWS_DEFAULT_REGION": self.stack.region,
                "BUCKET": self.asset.s3_bucket_name,
                "KEY": self.asset.s3_object_key,
                "SHA256": self.packed.sha256,
                "PCR0": self.image.pcrs[0],
                "HOSTS": " ".join(self.image.hosts),
                "ENCLAVE_CPUS": str(self.settings.cpus),
                "ENCLAVE_MEMORY_MIB": str(self.settings.memory_mib),
                "ENCLAVE_CID": str(self.settings.cid),
                **more,
            }
        )


def digest(settings: Settings, files: list[Delivery]) -> str:
    """A digest of everything that the first boot depends on."""
    parts: list[Any] = [user_data({}), settings.instance_type, *(f"{file.name} {file.sha256}" for file in files)]
    parts += [str(number) for number in (settings.cpus, settings.memory_mib, settings.cid)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]
