"""Several parent instances: an Auto Scaling group behind a Network Load Balancer."""

from aws_cdk import (
    Annotations,
    ArnFormat,
    CfnAutoScalingRollingUpdate,
    CfnCreationPolicy,
    CfnOutput,
    CfnResourceAutoScalingCreationPolicy,
    CfnResourceSignal,
    CfnUpdatePolicy,
    Fn,
    Stack,
)
from aws_cdk import aws_autoscaling as autoscaling
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_elasticloadbalancingv2 as elb
from aws_cdk import aws_iam as iam
from constructs import IDependable

from key_stack import KeyStack
from lint import accept
from machine import BOOTS_WITHIN_SECONDS, DEVICE, DISK, METADATA_OPTIONS, Machine
from network import Network
from parent import PORT, READY_PORT, forward_target

# The names are those in user-data.sh and leave.sh.
LAUNCHING, TERMINATING = "launching", "terminating"
# More than leave.sh waits.
LEAVES_WITHIN_SECONDS = 300
# user-data.sh also waits until the load balancer uses the instance.
JOINS_WITHIN_SECONDS = BOOTS_WITHIN_SECONDS + 600
ATTRIBUTES = {
    # Each address of the load balancer's name reaches all instances.
    "load_balancing.cross_zone.enabled": "true",
}
TARGET_ATTRIBUTES = {
    "preserve_client_ip.enabled": "true",
    "deregistration_delay.timeout_seconds": "120",
    "deregistration_delay.connection_termination.enabled": "true",
    # An instance that leaves is not ready, and still ends what is under way.
    "target_health_state.unhealthy.connection_termination.enabled": "false",
}


class Fleet:
    """The group and its load balancer. `url` is the same for each image."""

    def __init__(self, stack: Stack, machine: Machine, network: Network, parent_group: ec2.SecurityGroup) -> None:
        self.stack, self.machine, self.settings, self.network = stack, machine, machine.settings, network
        # Clients connect to the load balancer alone.
        self.clients_group = ec2.SecurityGroup(
            stack, "BalancerGroup", vpc=network.vpc, description="Load balancer of the signers"
        )
        parent_group.add_ingress_rule(self.clients_group, ec2.Port.tcp(PORT), "the load balancer")
        parent_group.add_ingress_rule(self.clients_group, ec2.Port.tcp(READY_PORT), "the load balancer's health checks")
        balancer = self.balancer()
        self.targets = self.target_group()
        listener = elb.CfnListener(
            stack,
            "Listener",
            load_balancer_arn=balancer.ref,
            port=PORT,
            # Not TLS, which terminates in the enclave.
            protocol="TCP",
            default_actions=[elb.CfnListener.ActionProperty(type="forward", target_group_arn=self.targets.ref)],
        )
        if machine.image.has_windows and machine.image.ledger is None:
            text = f"no [signer.ledger] in the image: each of the {self.settings.instances} enclaves counts its windows by itself"
            Annotations.of(stack).add_warning_v2("enclave-wireguard:windows", text)
        self.url = Fn.join("", ["https://", balancer.attr_dns_name])
        self.group = self.auto_scaling_group(self.launch_template(parent_group))
        # It takes part in health checks once it forwards to the targets.
        self.group.node.add_dependency(listener)

    def balancer(self) -> elb.CfnLoadBalancer:
        """An internal one: its name is EnclaveUrl."""
        balancer = elb.CfnLoadBalancer(
            self.stack,
            "Balancer",
            type="network",
            scheme="internal",
            subnets=[subnet.subnet_id for subnet in self.network.subnets],
            security_groups=[self.clients_group.security_group_id],
            load_balancer_attributes=[
                elb.CfnLoadBalancer.LoadBalancerAttributeProperty(key=key, value=value) for key, value in ATTRIBUTES.items()
            ],
        )
        accept(balancer, "It logs TLS listeners alone; the VPC's flow log has the connections", "AwsSolutions-ELB2", "CKV_AWS_91")
        return balancer

    def target_group(self) -> elb.CfnTargetGroup:
        """The enclaves' port of each instance."""
        return elb.CfnTargetGroup(
            self.stack,
            "Targets",
            vpc_id=self.network.vpc.vpc_id,
            target_type="instance",
            port=PORT,
            protocol="TCP",
            health_check_protocol="HTTP",
            health_check_port=str(READY_PORT),
            health_check_path="/ready",
            health_check_interval_seconds=10,
            health_check_timeout_seconds=6,
            healthy_threshold_count=2,
            unhealthy_threshold_count=3,
            target_group_attributes=[
                elb.CfnTargetGroup.TargetGroupAttributeProperty(key=key, value=value) for key, value in TARGET_ATTRIBUTES.items()
            ],
        )

    def launch_template(self, group: ec2.SecurityGroup) -> ec2.CfnLaunchTemplate:
        """An instance as the stack with one has it."""
        properties, machine = ec2.CfnLaunchTemplate, self.machine
        # Stable names: a changed image replaces the instances, and not the group.
        self.reason, handle = machine.reason(f"Fleet{machine.digest}", JOINS_WITHIN_SECONDS)
        more = {"GROUP": self.settings.group, "ENCLAVE_ADDRESS": forward_target(self.settings.parent_dir / "parent.toml")}
        template = ec2.CfnLaunchTemplate(
            self.stack,
            "Template",
            launch_template_data=properties.LaunchTemplateDataProperty(
                image_id=machine.ami_id,
                instance_type=self.settings.instance_type,
                iam_instance_profile=properties.IamInstanceProfileProperty(arn=machine.profile.attr_arn),
                security_group_ids=[group.security_group_id],
                enclave_options=properties.EnclaveOptionsProperty(enabled=True),
                metadata_options=properties.MetadataOptionsProperty(**METADATA_OPTIONS),
                block_device_mappings=[
                    properties.BlockDeviceMappingProperty(device_name=DEVICE, ebs=properties.EbsProperty(**DISK))
                ],
                user_data=Fn.base64(machine.script("Fleet", handle, more)),
            ),
        )
        if self.settings.ami_id is not None:
            accept(template, "The operator's settings name it, for one region", "CloudFormation-Validate::W9010")
        return template

    def auto_scaling_group(self, template: ec2.CfnLaunchTemplate) -> autoscaling.CfnAutoScalingGroup:
        """It replaces instances one at a time, and ends none before the next one signs."""
        count = self.settings.instances
        hook = autoscaling.CfnAutoScalingGroup.LifecycleHookSpecificationProperty
        group = autoscaling.CfnAutoScalingGroup(
            self.stack,
            "Fleet",
            auto_scaling_group_name=self.settings.group,
            vpc_zone_identifier=[subnet.subnet_id for subnet in self.network.subnets],
            launch_template=autoscaling.CfnAutoScalingGroup.LaunchTemplateSpecificationProperty(
                launch_template_id=template.ref, version=template.attr_latest_version_number
            ),
            min_size=str(count),
            desired_capacity=str(count),
            # One more while they are replaced.
            max_size=str(count + 1),
            target_group_arns=[self.targets.ref],
            health_check_type="ELB",
            health_check_grace_period=300,
            instance_maintenance_policy=autoscaling.CfnAutoScalingGroup.InstanceMaintenancePolicyProperty(
                min_healthy_percentage=100, max_healthy_percentage=200
            ),
            lifecycle_hook_specification_list=[
                hook(
                    lifecycle_hook_name=LAUNCHING,
                    lifecycle_transition="autoscaling:EC2_INSTANCE_LAUNCHING",
                    heartbeat_timeout=JOINS_WITHIN_SECONDS,
                    default_result="ABANDON",
                ),
                hook(
                    lifecycle_hook_name=TERMINATING,
                    lifecycle_transition="autoscaling:EC2_INSTANCE_TERMINATING",
                    heartbeat_timeout=LEAVES_WITHIN_SECONDS,
                    default_result="CONTINUE",
                ),
            ],
            tags=[
                autoscaling.CfnAutoScalingGroup.TagPropertyProperty(
                    key="Name", value=self.settings.group, propagate_at_launch=True
                )
            ],
        )
        wait = f"PT{JOINS_WITHIN_SECONDS}S"
        group.cfn_options.creation_policy = CfnCreationPolicy(
            auto_scaling_creation_policy=CfnResourceAutoScalingCreationPolicy(min_successful_instances_percent=100),
            resource_signal=CfnResourceSignal(count=count, timeout=wait),
        )
        group.cfn_options.update_policy = CfnUpdatePolicy(
            auto_scaling_rolling_update=CfnAutoScalingRollingUpdate(
                min_instances_in_service=count,
                max_batch_size=1,
                min_successful_instances_percent=100,
                wait_on_resource_signals=True,
                pause_time=wait,
                suspend_processes=["HealthCheck", "ReplaceUnhealthy", "AZRebalance", "AlarmNotification", "ScheduledActions"],
            )
        )
        accept(group, "CloudFormation reports failures of a deployment, and Auto Scaling replaces instances", "AwsSolutions-AS3")
        return group

    def permission(self, key: KeyStack) -> iam.Policy:
        """Lets an instance end the waits of its own group, and report itself to it: all about availability.

        `*` is the group's id, which is not known before it exists.
        """
        resource = {
            "service": "autoscaling",
            "resource": "autoScalingGroup",
            "resource_name": f"*:autoScalingGroupName/{self.settings.group}",
        }
        arn = self.stack.format_arn(**resource, arn_format=ArnFormat.COLON_RESOURCE_NAME)
        statement = iam.PolicyStatement(
            actions=["autoscaling:CompleteLifecycleAction", "autoscaling:SetInstanceHealth"], resources=[arn]
        )
        policy = iam.Policy(self.stack, "ReportToGroup", roles=[key.instance_role], statements=[statement])
        finding = f"arn:<AWS::Partition>:autoscaling:<AWS::Region>:<AWS::AccountId>:autoScalingGroup:{resource['resource_name']}"
        accept(policy, "The name is the group's own; the id is made with the group", f"AwsSolutions-IAM5[Resource::{finding}]")
        return policy

    def needs(self, *dependencies: IDependable) -> None:
        """What the first boot of an instance needs."""
        for each in (self.group, self.reason):
            each.node.add_dependency(*dependencies, *self.network.way_out)

    def outputs(self) -> None:
        """The instances come and go: `get_asg_instances.sh` lists them."""
        CfnOutput(self.stack, "ASGGroupName", value=self.group.ref, description="bootstrap/aws/get_asg_instances.sh")
