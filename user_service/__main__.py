"""Runs user_service: `python -m user_service --port 8001`."""

from common.serve import serve
from user_service.main import SERVICE

serve(SERVICE)
