"""Taking the configuration anew: since its file changed, an admin or another replica said so, or an operator sent a signal."""

from __future__ import annotations

import structlog

from app.config.loading import Loaded
from app.config.reload import Configuration
from app.core.audit import SERVICE, SERVICE_TENANT, Act
from app.core.errors import ConfigError
from app.observability.metrics import CONFIG_RELOADS
from app.tools.audit.trail import AuditTrail

_log = structlog.get_logger("quorum.container")


class Reloading:
    """Reloads `configuration`, counted and logged. One that is wrong changes nothing."""

    def __init__(self, configuration: Configuration, audit: AuditTrail) -> None:
        self._configuration = configuration
        self._audit = audit

    async def reload(self) -> Loaded:
        """Raises ConfigError: it is wrong; the old one stays."""
        try:
            loaded = self._configuration.reload()
        except ConfigError as error:
            CONFIG_RELOADS.labels("refused").inc()
            _log.error("the configuration is not reloaded, the old one stays", reason=error.message, faults=error.faults)
            raise
        CONFIG_RELOADS.labels("ok").inc()
        _log.info("the configuration is reloaded", version=self._configuration.version)
        return loaded

    async def on_signal(self) -> Loaded:
        """Reload because an operator of this machine said so. It is recorded afterwards: it must work without the store too."""
        act = Act(tenant=SERVICE_TENANT, actor=SERVICE, action="config.reload", subject_kind="configuration", subject="SIGHUP")
        try:
            loaded = await self.reload()
        except ConfigError as error:
            self._audit.note(act, "failed", {"error": error.code})
            raise
        self._audit.note(act, "done", {"digest": self._audit.digest(loaded.spec.model_dump(mode="json"))})
        return loaded
