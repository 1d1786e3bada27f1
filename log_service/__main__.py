"""`python -m log_service`."""

from common.serve import serve
from log_service.main import SERVICE

serve(SERVICE)
