"""Runs ai_service: `python -m ai_service --port 8000`."""

from ai_service.main import SERVICE
from common.serve import serve

serve(SERVICE)
