"""Cluster profiles, one commented YAML file per scheduler or site."""
