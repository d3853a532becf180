"""HTTP only: parse, call, shape the reply. One file a resource."""
