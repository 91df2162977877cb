# Every block and member of the provider's CodeBuild resources that main.tf does not have. `changed` is another value of each.
variable "changed" {
  type    = bool
  default = false
}

resource "aws_codebuild_project" "batch" {
  name           = "terraform-batch"
  description    = ""
  service_role   = local.role
  build_timeout  = var.changed ? 5 : 480
  queued_timeout = var.changed ? 480 : 5
  artifacts { type = "NO_ARTIFACTS" }
  build_batch_config {
    service_role      = local.role
    combine_artifacts = !var.changed
    timeout_in_mins   = var.changed ? 10 : 20
    restrictions {
      compute_types_allowed  = var.changed ? ["BUILD_GENERAL1_SMALL"] : ["BUILD_GENERAL1_SMALL", "BUILD_GENERAL1_MEDIUM"]
      maximum_builds_allowed = var.changed ? 5 : 10
    }
  }
  cache { type = "NO_CACHE" }
  environment {
    compute_type = "BUILD_GENERAL1_LARGE"
    image        = "aws/codebuild/amazonlinux2-aarch64-standard:3.0"
    type         = "ARM_CONTAINER"
  }
  source {
    type      = "S3"
    location  = "bucket/${var.changed ? "other" : "source"}.zip"
    buildspec = var.changed ? "other.yml" : "some/buildspec.yml"
  }
}

resource "aws_codebuild_project" "pipeline" {
  name         = "terraform-pipeline"
  service_role = local.role
  artifacts { type = "CODEPIPELINE" }
  cache {
    type     = "S3"
    location = var.changed ? "bucket/other" : "bucket/cache"
  }
  environment {
    compute_type                = "BUILD_GENERAL1_SMALL"
    image                       = "example.com/group/image:tag"
    type                        = "LINUX_CONTAINER"
    image_pull_credentials_type = "SERVICE_ROLE"
    registry_credential {
      credential          = "arn:aws:secretsmanager:us-east-1:123456789012:secret:registry-${var.changed ? "FedCba" : "AbCdef"}"
      credential_provider = "SECRETS_MANAGER"
    }
    environment_variable {
      name  = "PLAIN"
      value = var.changed ? "" : "plain"
      type  = "PLAINTEXT"
    }
    environment_variable {
      name  = "PARAMETER"
      value = var.changed ? "/other" : "/parameter"
      type  = "PARAMETER_STORE"
    }
    environment_variable {
      name  = "SECRET"
      value = "secret:key:AWSCURRENT"
      type  = "SECRETS_MANAGER"
    }
  }
  logs_config {
    cloudwatch_logs { status = var.changed ? "ENABLED" : "DISABLED" }
    s3_logs {
      status              = "ENABLED"
      location            = "bucket/logs"
      bucket_owner_access = var.changed ? "READ_ONLY" : "FULL"
    }
  }
  source { type = "CODEPIPELINE" }
}

resource "aws_codebuild_project" "public" {
  name                 = "terraform-public"
  service_role         = local.role
  project_visibility   = var.changed ? "PRIVATE" : "PUBLIC_READ"
  resource_access_role = local.role
  source_version       = var.changed ? "refs/heads/other" : "refs/tags/some"
  artifacts {
    type                = "S3"
    location            = "bucket"
    artifact_identifier = "first"
    bucket_owner_access = var.changed ? "READ_ONLY" : "FULL"
    namespace_type      = var.changed ? "NONE" : "BUILD_ID"
  }
  dynamic "secondary_artifacts" {
    for_each = var.changed ? ["one", "three"] : ["one", "two"]
    content {
      artifact_identifier    = secondary_artifacts.value
      type                   = "S3"
      location               = "bucket"
      path                   = "some/path"
      name                   = "name.zip"
      namespace_type         = "BUILD_ID"
      packaging              = "ZIP"
      encryption_disabled    = true
      override_artifact_name = true
      bucket_owner_access    = "FULL"
    }
  }
  environment {
    compute_type = "BUILD_GENERAL1_SMALL"
    image        = "aws/codebuild/standard:7.0"
    type         = "LINUX_CONTAINER"
  }
  source {
    type                = "GITHUB_ENTERPRISE"
    location            = "https://github.example.com/owner/repository.git"
    buildspec           = "version: 0.2\n"
    git_clone_depth     = var.changed ? 0 : 3
    insecure_ssl        = !var.changed
    report_build_status = !var.changed
    build_status_config {
      context    = var.changed ? "other" : "context"
      target_url = "https://example.com/build"
    }
    git_submodules_config { fetch_submodules = !var.changed }
  }
  secondary_sources {
    source_identifier = "commit"
    type              = "CODECOMMIT"
    location          = "https://git-codecommit.us-east-1.amazonaws.com/v1/repos/${var.changed ? "other" : "some"}"
    git_clone_depth   = 1
    git_submodules_config { fetch_submodules = true }
  }
  secondary_sources {
    source_identifier   = "bucket"
    type                = "BITBUCKET"
    location            = "https://bitbucket.org/owner/repository.git"
    buildspec           = "other.yml"
    report_build_status = true
    build_status_config {
      context    = "context"
      target_url = "https://example.com/build"
    }
  }
  dynamic "secondary_source_version" {
    for_each = var.changed ? ["commit"] : ["bucket", "commit"]
    content {
      source_identifier = secondary_source_version.value
      source_version    = "main"
    }
  }
  dynamic "vpc_config" {
    for_each = var.changed ? [] : ["vpc-1"]
    content {
      vpc_id             = vpc_config.value
      subnets            = ["subnet-1"]
      security_group_ids = ["sg-2", "sg-1"]
    }
  }
  tags = var.changed ? { second = "" } : { owner = "somebody", first = "1" }
}

resource "aws_codebuild_report_group" "kept" {
  name = "terraform-kept"
  type = "TEST"
  export_config { type = "NO_EXPORT" }
  tags = { owner = var.changed ? "nobody" : "somebody" }
}

resource "aws_codebuild_report_group" "exported" {
  name           = "terraform-exported"
  type           = "CODE_COVERAGE"
  delete_reports = true
  export_config {
    type = "S3"
    s3_destination {
      bucket              = "bucket"
      path                = var.changed ? "/other" : "/some"
      packaging           = var.changed ? "NONE" : "ZIP"
      encryption_disabled = false
      encryption_key      = "arn:aws:kms:us-east-1:123456789012:key/some"
    }
  }
}
