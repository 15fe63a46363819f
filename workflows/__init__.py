"""Backends, jobs and flows, the study file, local runs and the store."""
