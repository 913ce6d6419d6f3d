"""How rows reach the replicas."""
