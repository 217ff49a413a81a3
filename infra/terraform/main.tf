# The bucket for DVC's remote, MLflow's artifacts and raw videos, and the policies to use it with.

terraform {
  required_version = ">= 1.6"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.60, < 7.0"
    }
  }
}

provider "aws" {
  region = var.region
}

resource "aws_s3_bucket" "kineflow" {
  bucket = var.bucket
  tags   = var.tags
}

# Objects are content-addressed and never rewritten, so a noncurrent version is somebody's mistake: kept for a while.
resource "aws_s3_bucket_versioning" "kineflow" {
  bucket = aws_s3_bucket.kineflow.id
  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_lifecycle_configuration" "kineflow" {
  bucket     = aws_s3_bucket.kineflow.id
  depends_on = [aws_s3_bucket_versioning.kineflow]

  rule {
    id     = "abort-incomplete-multipart-uploads"
    status = "Enabled"
    filter {}
    abort_incomplete_multipart_upload {
      days_after_initiation = var.abort_multipart_after_days
    }
  }

  rule {
    id     = "expire-noncurrent-versions"
    status = "Enabled"
    filter {}
    noncurrent_version_expiration {
      noncurrent_days = var.keep_noncurrent_days
    }
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "kineflow" {
  bucket = aws_s3_bucket.kineflow.id
  rule {
    apply_server_side_encryption_by_default {
      sse_algorithm = "AES256"
    }
  }
}

resource "aws_s3_bucket_public_access_block" "kineflow" {
  bucket                  = aws_s3_bucket.kineflow.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_ownership_controls" "kineflow" {
  bucket = aws_s3_bucket.kineflow.id
  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

# For workers: everything that a run needs, nothing that deletes a version.
data "aws_iam_policy_document" "worker" {
  statement {
    sid       = "List"
    actions   = ["s3:ListBucket", "s3:GetBucketLocation", "s3:ListBucketMultipartUploads"]
    resources = [aws_s3_bucket.kineflow.arn]
  }
  statement {
    sid       = "ReadAndWrite"
    actions   = ["s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"]
    resources = ["${aws_s3_bucket.kineflow.arn}/*"]
  }
}

# For people who only pull results and models.
data "aws_iam_policy_document" "reader" {
  statement {
    sid       = "List"
    actions   = ["s3:ListBucket", "s3:GetBucketLocation"]
    resources = [aws_s3_bucket.kineflow.arn]
  }
  statement {
    sid       = "Read"
    actions   = ["s3:GetObject"]
    resources = ["${aws_s3_bucket.kineflow.arn}/*"]
  }
}

resource "aws_iam_policy" "worker" {
  name   = "${var.bucket}-worker"
  policy = data.aws_iam_policy_document.worker.json
  tags   = var.tags
}

resource "aws_iam_policy" "reader" {
  name   = "${var.bucket}-reader"
  policy = data.aws_iam_policy_document.reader.json
  tags   = var.tags
}
