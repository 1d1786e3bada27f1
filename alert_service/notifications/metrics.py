"""What is counted about mails."""

from prometheus_client import Counter, Gauge

MAILS = Counter("assay_mails_total", "Mails by what became of a try to send them.", ["state"])
RECIPIENTS = Counter(
    "assay_mail_recipients_total", "Addresses by what became of a try to send them a mail.", ["state"]
)
WAITING = Gauge("assay_mails_waiting", "Mails that are still to be delivered to somebody.")
UNASSIGNED = Gauge("assay_alerts_without_mail", "Alerts that are in no mail yet.")
OLDEST_SECONDS = Gauge("assay_alerts_oldest_seconds", "Age of the oldest alert that nobody was told yet.")
REACHABLE = Gauge("assay_mail_server_reachable", "1 while the mail server can be reached, else 0.")
