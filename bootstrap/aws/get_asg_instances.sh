#!/usr/bin/env bash
# Prints the ids of an Auto Scaling group's instances, one a line.
#
#   get_asg_instances.sh GROUP    ASGGroupName of a fleet
#
# The region is CDK_DEPLOY_REGION, or AWS_REGION.
set -euo pipefail

if [ $# -ne 1 ] || [[ $1 == -* ]]; then
    echo "usage: get_asg_instances.sh GROUP" >&2
    exit 1
fi
[ -z "${CDK_DEPLOY_REGION:-}" ] || export AWS_REGION=$CDK_DEPLOY_REGION AWS_DEFAULT_REGION=$CDK_DEPLOY_REGION
ids=$(aws autoscaling describe-auto-scaling-groups --auto-scaling-group-names "$1" \
    --query 'AutoScalingGroups[].Instances[].InstanceId' --output text)
if [ -z "$ids" ]; then
    echo "error: the group $1 has no instances in this region; expected ASGGroupName of the stack NAME-enclave" >&2
    exit 1
fi
tr -s '[:space:]' '\n' <<<"$ids"
