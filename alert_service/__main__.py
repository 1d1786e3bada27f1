"""Runs alert_service: `python -m alert_service --port 8003`."""

from alert_service.main import SERVICE
from common.serve import serve

serve(SERVICE)
