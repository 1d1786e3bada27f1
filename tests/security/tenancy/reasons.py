"""Every reason for which a statement may work for all institutions, and every table that is of none.

A new one is added here by whoever needs it, so that a reviewer sees it.
"""

MAILER = "the mailer sends the mails of all"
MEASURED = "what waits is measured for all together"
ARCHIVER = "the archiver stores the records of all"
FEED = "the feed tells services about all institutions"
BY_TOKEN = "whose session a refresh token belongs to, the token says"
IN_ONE_COMMIT = "one commit saves transactions of all; each is looked up by its institution and id"

REASONS: dict[str, dict[str, set[str]]] = {
    "ai_service.scoring.repository": {
        "the relay tells the decisions of all": {"_records"},
        "velocity is restored and kept for all": {"last_sequences"},
        "rates are loaded for the currencies of all": {"base_currencies"},
    },
    "ai_service.scoring.velocity_repository": {
        "velocity catches up for all": {"institutions_not_observed"},
    },
    "ai_service.usage.repository": {
        "use is loaded for all": {"used_since", "warned_since"},
        "the relay tells the warnings of all": {"find_warnings"},
    },
    "ai_service.scoring.saving": {IN_ONE_COMMIT: {"_insert_keys", "_already_saved", "_without_those_beyond"}},
    "ai_service.scoring.postgres_statements": {IN_ONE_COMMIT: {"_finding_keys", "_finding_decisions"}},
    "alert_service.notices.repository": {
        "a batch of notices is of many institutions; each is compared with all of its own content": {
            "_known"
        },
    },
    "alert_service.notifications.repository": {
        MAILER: {"waiting_alerts", "claim", "renew", "give_back", "wake", "_chosen"},
        MEASURED: {"count_pending", "oldest_untold_ms"},
    },
    "common.postgres.partitions": {
        "rows of a month are moved into its partition for all": {"left", "move_one", "_ensure"}
    },
    "common.approvals": {"what is old is forgotten for all": {"forget"}},
    "log_service.archive.spool_store": {
        "a batch of records is of many institutions; each is compared with its own envelope": {"_knowing"},
    },
    "log_service.archive.repository": {
        "a batch of records is of many institutions; each is compared with its own envelope": {"_knowing"},
        MEASURED: {"count_spooled", "count_sealed"},
        ARCHIVER: {
            "waiting_groups",
            "give_up_lost",
            "sealed_objects",
            "bodies_of",
            "objects_to_clear",
            "members",
            "drop_bodies",
            "mark_cleared",
            "mark_conflict",
            "state_of",
            "_settle",
        },
    },
    "user_service.access.repository": {
        FEED: {"institutions", "api_keys", "ended_sessions", "forget_ended_sessions"},
        "services tell when keys of all institutions were used": {"note_uses"},
    },
    "user_service.api_keys.repository": {
        "whose a key is, the key says": {"find_by_digest"},
        "the settings name the maker of their keys, whose institution may have been another one before": {
            "hold_configured"
        },
    },
    "user_service.approvals.repository": {
        "operators decide where an institution has nobody else": {"open_for_operators", "institution_of"},
    },
    "user_service.users.accounts_repository": {
        "who logs in says an address; whose it is, the account says": {"find_account"},
        "a task about an account names the user; whose it is, the account says": {"find_by_id"},
    },
    "user_service.sessions.refresh_tokens_repository": {
        BY_TOKEN: {"use_refresh_token", "find_refresh_token"},
    },
    "user_service.mailed_tokens.repository": {
        "whose account a mailed token belongs to, the token says": {"find_mailed_token"},
        "what is old is forgotten for all": {"forget_old_mailed_tokens"},
    },
    "user_service.events.repository": {"the relay tells the events of all": {"bodies_of"}},
    "user_service.institutions.repository": {"operators see the tenants": {"page"}},
    "user_service.members.repository": {
        "invitations of all institutions expire": {"expired_invitations"},
    },
    "user_service.users.repository": {
        "an address has one account on the whole platform": {"has_account"},
    },
}

TABLES_OF_NOBODY: dict[str, dict[str, str]] = {
    "ai_service": {
        "changes": "versions alone; what changed is elsewhere",
        "model_choices": "the platform's own",
        "outbox": "ids of decisions; the relay reads it",
    },
    "alert_service": {},
    "log_service": {},
    "user_service": {
        "account_tasks": "what to do about accounts; also for addresses that nobody has",
        "access_changes": "ids in the order they changed; services read it, for all institutions",
        "access_marks": "versions alone",
        "attempts": "digests of addresses, before anybody is known",
        "known_addresses": "digests of addresses and accounts, before anybody is known",
        "counters": "numbers by name",
        "mail_counts": "how many mails anybody gets or makes necessary, whoever that is",
        "notices": "letters on their way to alert_service; the relay reads it",
        "outbox": "ids of events and notices; the relay reads it",
        "registrations": "institutions that are not there yet",
        "changes": "versions alone; what changed is elsewhere",
        "signing_keys": "the platform's own",
    },
}
