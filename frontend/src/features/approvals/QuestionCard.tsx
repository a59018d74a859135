import { Alert, Badge, Button, Checkbox, Group, Radio, Stack, Text, TextInput } from "@mantine/core";
import { MessageCircleQuestion } from "lucide-react";
import { memo, useRef, useState } from "react";
import type { EventOf, Question } from "../../protocol/events.ts";
import type { QuestionItem } from "../../protocol/view.ts";
import { HttpError, sayError } from "../../net/http.ts";
import { who } from "../../ui/words.ts";
import { api } from "../../wiring.ts";
import { useRights } from "../sharing/rights.ts";
import { Countdown } from "./Countdown.tsx";
import { useArrival } from "./keys.ts";

/** What stands for one's own words among the options. */
const OTHER = "\u0000other";

interface Draft {
  picked: string[];
  other: string;
}

export const answerOf = (question: Question, draft: Draft): string => {
  const own = draft.other.trim();
  const free = (question.options ?? []).length === 0 || draft.picked.includes(OTHER);
  return [...draft.picked.filter((one) => one !== OTHER), ...(free && own ? [own] : [])].join(", ");
};

export const QuestionCard = memo(function QuestionCard({ item }: { item: QuestionItem }) {
  return item.answered ? <Answered item={item} answered={item.answered} /> : <Asking event={item.event} />;
});

const OUTCOMES = { answered: "Answered", expired: "Not answered in time", cancelled: "Cancelled" };

function Answered({ item, answered }: { item: QuestionItem; answered: EventOf<"question_answered"> }) {
  return (
    <section className="card" data-state="done" data-testid="question-card" data-outcome={answered.outcome}>
      <div className="resolvedline">
        <MessageCircleQuestion size={16} />
        {OUTCOMES[answered.outcome]}
        {answered.by ? ` by ${who(answered.by)}` : ""}
      </div>
      <dl className="cardbody" style={{ paddingTop: 0, margin: 0 }}>
        {item.event.questions.map((one) => (
          <div key={one.question}>
            <dt style={{ color: "var(--quiet)", fontSize: 13 }}>{one.question}</dt>
            <dd style={{ margin: 0, fontSize: 14 }}>{answered.answers[one.question] ?? "—"}</dd>
          </div>
        ))}
      </dl>
    </section>
  );
}

function Asking({ event }: { event: EventOf<"question"> }) {
  const card = useRef<HTMLElement>(null);
  useArrival(card);
  const may = useRights().includes("approve");
  const [drafts, setDrafts] = useState<Draft[]>(() => event.questions.map(() => ({ picked: [], other: "" })));
  const [busy, setBusy] = useState(false);
  const [fault, setFault] = useState<string>();
  const answers = event.questions.map((one, i) => answerOf(one, drafts[i] ?? { picked: [], other: "" }));
  const set = (i: number, draft: Draft): void => setDrafts(drafts.map((one, j) => (j === i ? draft : one)));
  const send = (): void => {
    setBusy(true);
    setFault(undefined);
    const body = Object.fromEntries(event.questions.map((one, i) => [one.question, answers[i] ?? ""]));
    api.answer(event.questionId, body).catch((error: unknown) => {
      setBusy(false);
      setFault(error instanceof HttpError && error.code === "already_resolved" ? "Somebody else has answered." : sayError(error));
    });
  };
  return (
    <section ref={card} className="card" data-state="pending" data-pending-card="true" data-testid="question-card" data-outcome="pending" role="group" tabIndex={-1} aria-label="The agent asks">
      <div className="cardhead">
        <h2>The agent asks</h2>
        <Group gap={8} ml="auto">
          {event.expiresAt ? <Countdown at={event.expiresAt} /> : null}
          <Badge color="orange" variant="light">
            {may ? "needs you" : "waits"}
          </Badge>
        </Group>
      </div>
      <form className="cardbody" onSubmit={(submit) => (submit.preventDefault(), send())}>
        {event.questions.map((one, i) => (
          <Ask key={i} question={one} draft={drafts[i] ?? { picked: [], other: "" }} onChange={(draft) => set(i, draft)} />
        ))}
        {fault ? (
          <Alert color="orange" variant="light" role="alert">
            {fault}
          </Alert>
        ) : null}
        <Group>
          <Button type="submit" size="sm" loading={busy} disabled={!may || answers.some((one) => one === "")} data-testid="question-submit">
            Answer
          </Button>
          {may ? null : (
            <Text fz="sm" c="dimmed">
              You may look at it; somebody else answers.
            </Text>
          )}
        </Group>
      </form>
    </section>
  );
}

function Ask({ question, draft, onChange }: { question: Question; draft: Draft; onChange: (draft: Draft) => void }) {
  const options = question.options ?? [];
  const label = (
    <>
      {question.header ? <span className="label">{question.header} </span> : null}
      <Text component="span" fw={500} display="block">
        {question.question}
      </Text>
    </>
  );
  const own = (
    <TextInput size="sm" aria-label={`Your own words: ${question.question}`} placeholder="Your own words" value={draft.other} onChange={(event) => onChange({ picked: options.length === 0 ? [] : question.multi ? [...new Set([...draft.picked, OTHER])] : [OTHER], other: event.currentTarget.value })} data-testid="question-other" />
  );
  if (options.length === 0)
    return (
      <Stack gap={6}>
        <div>{label}</div>
        {own}
      </Stack>
    );
  if (question.multi === true)
    return (
      <Checkbox.Group label={label} value={draft.picked} onChange={(picked) => onChange({ ...draft, picked })}>
        <Stack gap={8} mt={8}>
          {options.map((one) => (
            <Checkbox key={one.label} value={one.label} label={one.label} description={one.description} data-testid="question-option" />
          ))}
          <Checkbox value={OTHER} label="Something else" />
          {own}
        </Stack>
      </Checkbox.Group>
    );
  return (
    <Radio.Group label={label} value={draft.picked[0] ?? ""} onChange={(picked) => onChange({ ...draft, picked: [picked] })}>
      <Stack gap={8} mt={8}>
        {options.map((one) => (
          <Radio key={one.label} value={one.label} label={one.label} description={one.description} data-testid="question-option" />
        ))}
        <Radio value={OTHER} label="Something else" />
        {own}
      </Stack>
    </Radio.Group>
  );
}
