"""Runs this service: `python -m external_apis_services --port 8005`."""

from common.serve import serve
from external_apis_services.main import SERVICE

serve(SERVICE)
