"""What one person asked for and another has to agree to, in this service's schema."""

from common.approvals import Approvals, approvals_table
from user_service.tables import Base

table = approvals_table(Base.metadata, institutions="institutions.institution_id")
approvals = Approvals(table)
