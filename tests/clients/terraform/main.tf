# Terraform's AWS provider against the server that the AWS variables name. A plan that follows an apply is empty;
# tests/system/test_tools.py runs this where Terraform and its provider are on the machine.
terraform {
  required_providers {
    aws = { source = "hashicorp/aws" }
  }
}

variable "endpoint" { type = string }
variable "description" {
  type    = string
  default = "Every block that the provider has"
}

provider "aws" {
  endpoints {
    codebuild      = var.endpoint
    sts            = var.endpoint
    s3             = var.endpoint
    ssm            = var.endpoint
    secretsmanager = var.endpoint
    cloudwatchlogs = var.endpoint
  }
  s3_use_path_style       = true
  skip_metadata_api_check = true
}

locals {
  role = "arn:aws:iam::123456789012:role/codebuild"
}

resource "aws_codebuild_project" "small" {
  name         = "terraform-small"
  service_role = local.role
  artifacts { type = "NO_ARTIFACTS" }
  environment {
    compute_type = "BUILD_GENERAL1_SMALL"
    image        = "aws/codebuild/standard:7.0"
    type         = "LINUX_CONTAINER"
  }
  source {
    type      = "NO_SOURCE"
    buildspec = "version: 0.2\nphases: {build: {commands: [\"true\"]}}\n"
  }
}

resource "aws_codebuild_project" "large" {
  name                   = "terraform-large"
  description            = var.description
  service_role           = local.role
  build_timeout          = 30
  queued_timeout         = 60
  badge_enabled          = false
  concurrent_build_limit = 2
  encryption_key         = "arn:aws:kms:us-east-1:123456789012:alias/aws/s3"
  source_version         = "main"
  artifacts {
    type                   = "S3"
    location               = "bucket"
    name                   = "result.zip"
    namespace_type         = "BUILD_ID"
    packaging              = "ZIP"
    path                   = "some/path"
    override_artifact_name = true
    encryption_disabled    = true
  }
  secondary_artifacts {
    artifact_identifier = "second"
    type                = "S3"
    location            = "bucket"
    name                = "second"
  }
  cache {
    type  = "LOCAL"
    modes = ["LOCAL_CUSTOM_CACHE", "LOCAL_SOURCE_CACHE"]
  }
  environment {
    compute_type                = "BUILD_GENERAL1_LARGE"
    image                       = "aws/codebuild/standard:7.0"
    type                        = "LINUX_CONTAINER"
    image_pull_credentials_type = "CODEBUILD"
    privileged_mode             = true
    environment_variable {
      name  = "Z"
      value = "1"
    }
    environment_variable {
      name  = "A"
      value = "/parameter"
      type  = "PARAMETER_STORE"
    }
  }
  logs_config {
    cloudwatch_logs {
      group_name  = "group"
      stream_name = "stream"
    }
    s3_logs {
      status              = "ENABLED"
      location            = "bucket/logs"
      encryption_disabled = true
    }
  }
  source {
    type                = "GITHUB"
    location            = "https://github.com/owner/repository.git"
    git_clone_depth     = 1
    report_build_status = true
    git_submodules_config { fetch_submodules = true }
  }
  secondary_sources {
    source_identifier = "more"
    type              = "GITHUB"
    location          = "https://github.com/owner/more.git"
    git_clone_depth   = 1
  }
  secondary_source_version {
    source_identifier = "more"
    source_version    = "main"
  }
  vpc_config {
    vpc_id             = "vpc-1"
    subnets            = ["subnet-2", "subnet-1"]
    security_group_ids = ["sg-1"]
  }
  tags = { zulu = "last", alpha = "" }
}

resource "aws_codebuild_source_credential" "github" {
  auth_type   = "PERSONAL_ACCESS_TOKEN"
  server_type = "GITHUB"
  token       = "secret"
}

resource "aws_codebuild_resource_policy" "shared" {
  resource_arn = aws_codebuild_project.small.arn
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { AWS = "arn:aws:iam::999999999999:root" }
      Action    = ["codebuild:BatchGetProjects", "codebuild:BatchGetBuilds", "codebuild:ListBuildsForProject"]
      Resource  = aws_codebuild_project.small.arn
    }]
  })
}

