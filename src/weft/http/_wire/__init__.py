"""What of the HTTP client runs per packet, compiled: parser, connection, the response while it comes, time limits."""
