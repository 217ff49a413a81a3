variable "bucket" {
  description = "Name of the bucket; names are global, so put your organisation in it."
  type        = string
}

variable "region" {
  description = "Region of the bucket."
  type        = string
  default     = "eu-central-1"
}

variable "abort_multipart_after_days" {
  description = "Parts of uploads that a killed push left behind are removed after this many days."
  type        = number
  default     = 7
}

variable "keep_noncurrent_days" {
  description = "Replaced and deleted objects can be brought back for this many days."
  type        = number
  default     = 30
}

variable "tags" {
  description = "Tags of everything that is made."
  type        = map(string)
  default     = { project = "kineflow" }
}
