"""One session in memory: its parts, put together, taken up again from what the store has of it, let go."""

from __future__ import annotations

from dataclasses import dataclass

from pilothouse.engine import records
from pilothouse.engine.approvals import Approvals
from pilothouse.engine.artifacts import Artifacts
from pilothouse.engine.domains import Domains
from pilothouse.engine.intake import Intake
from pilothouse.engine.jobs import Jobs
from pilothouse.engine.kit import Kit
from pilothouse.engine.live import Live
from pilothouse.engine.questions import Questions
from pilothouse.engine.records import ApprovalRecord, JobRecord, QuestionRecord, SessionRecord
from pilothouse.engine.rules import Rules
from pilothouse.engine.secrets import Secrets


@dataclass
class Session:
    live: Live
    jobs: Jobs
    approvals: Approvals
    questions: Questions
    domains: Domains

    @classmethod
    def made(
        cls, kit: Kit, rules: Rules, secrets: Secrets | None, artifacts: Artifacts | None, record: SessionRecord
    ) -> Session:
        live = Live(kit, record, secrets, artifacts)
        intake = Intake(live)
        approvals = Approvals(live, rules)
        questions = Questions(live)
        jobs = Jobs(live, approvals, questions, intake)
        intake.jobs, intake.approvals, intake.questions = jobs, approvals, questions
        return cls(live, jobs, approvals, questions, Domains(live, approvals))

    async def restore(self) -> None:
        """Its jobs that are not done, and what they have asked. Raises StoreFailed."""
        store, sid = self.live.kit.store, self.live.record.id
        self.live.head = await self.live.kit.log.head(sid)
        found = await store.scan("job", owner=sid, limit=1000, newest=True)
        jobs = [records.load(doc, JobRecord) for _, doc in found]
        open_jobs = [j for j in reversed(jobs) if j.state != "done"]
        if any(j.state == "running" for j in open_jobs):
            approvals = await store.scan("approval", owner=sid, limit=1000, newest=True)
            self.approvals.restore([records.load(doc, ApprovalRecord) for _, doc in reversed(approvals)])
            questions = await store.scan("question", owner=sid, limit=1000, newest=True)
            self.questions.restore([records.load(doc, QuestionRecord) for _, doc in reversed(questions)])
        self.jobs.restore(open_jobs)
        self.jobs.last_askers = jobs[0].askers if jobs else []
        self.jobs.last_headless = bool(jobs) and jobs[0].headless

    async def close(self) -> None:
        """Lets go of it; sandbox and runner go on."""
        await self.jobs.drive.close()
        self.approvals.close()
        self.questions.close()
        await self.live.let_go()
