output "kineflow_remote" {
  description = "Value of KINEFLOW_REMOTE: where DVC pushes to."
  value       = "s3://${aws_s3_bucket.kineflow.bucket}/dvc"
}

output "mlflow_artifacts" {
  description = "Value of --artifacts-destination of the MLflow server."
  value       = "s3://${aws_s3_bucket.kineflow.bucket}/mlflow"
}

output "worker_policy_arn" {
  description = "Policy to attach to the role of workers."
  value       = aws_iam_policy.worker.arn
}

output "reader_policy_arn" {
  description = "Policy to attach to people who pull results."
  value       = aws_iam_policy.reader.arn
}
