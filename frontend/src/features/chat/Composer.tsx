import { ActionIcon, Button, Group, Menu, Paper, SegmentedControl, Textarea, Tooltip } from "@mantine/core";
import { ArrowUp, ChevronDown, ShieldCheck, Square } from "lucide-react";
import { useEffect, useRef, useState } from "react";
import type { Live } from "../../model/feed.ts";
import { useLiveState } from "../../model/hooks.ts";
import type { Me, Session } from "../../net/api.ts";
import { modeWords } from "../../ui/words.ts";
import { client } from "../../wiring.ts";
import { PictureButton, PictureStrip } from "./PictureField.tsx";
import { usePictures } from "./pictures.ts";

/** Two presses of Escape within this time interrupt the job. */
const DOUBLE_MS = 800;

interface Props {
  id: string;
  live: Live | undefined;
  session: Session | undefined;
  me: Me;
}

export function Composer({ id, live, session, me }: Props) {
  const [text, setText] = useState("");
  const [how, setHow] = useState<"steer" | "queue">("steer");
  const connection = useLiveState((state) => state.connection);
  const pictures = usePictures();
  const field = useRef<HTMLTextAreaElement>(null);
  const running = live?.running ?? false;
  const escaped = useInterruptKey(id, running);
  const tooLong = text.length > me.server.promptMax / 4 && new TextEncoder().encode(text).length > me.server.promptMax;
  const ready = text.trim() !== "" && !tooLong && connection !== "refused";
  const mode = live?.view.mode ?? session?.permissionMode ?? "acceptEdits";

  const steers = running && how === "steer";

  const send = (): void => {
    if (!ready) return;
    const taken = pictures.take();
    client.prompt(id, text, { steer: steers && taken.length === 0, pictures: taken });
    setText("");
    field.current?.focus();
  };

  return (
    <form onSubmit={(event) => (event.preventDefault(), send())}>
      <Paper withBorder radius="lg" className="composerbox">
        <Textarea
          ref={field}
          variant="unstyled"
          aria-label="Prompt"
          placeholder={running ? (how === "steer" ? "Add to the running job…" : "Next prompt, after this job…") : "Ask for more…"}
          autosize
          minRows={1}
          maxRows={12}
          px="md"
          pt={4}
          value={text}
          onPaste={pictures.paste}
          onChange={(event) => setText(event.currentTarget.value)}
          onKeyDown={(event) => {
            if (event.key === "Enter" && !event.shiftKey && !event.nativeEvent.isComposing) {
                event.preventDefault();
                send();
              }
          }}
          error={tooLong ? "This prompt is too long." : undefined}
          data-testid="composer"
        />
        <PictureStrip pictures={pictures} hint={steers ? "Pictures begin a prompt of their own: it is queued after this job." : undefined} />
        <Group px="xs" pb={8} gap={6} wrap="nowrap">
          <PictureButton pictures={pictures} />
          <ModePicker mode={mode} modes={me.server.permissionModes} onPick={(one) => client.setMode(id, one)} />
          {running ? (
            <Tooltip label="Steer: the running job reads it. Queue: it becomes the next job." multiline maw={260}>
              <SegmentedControl size="xs" value={how} onChange={(value) => setHow(value)} data={[{ value: "steer", label: "Steer" }, { value: "queue", label: "Queue" }]} aria-label="How to send while the job runs" data-testid="steer-or-queue" />
            </Tooltip>
          ) : null}
          <Group ml="auto" gap={6} wrap="nowrap">
            {running ? (
              <Tooltip label={escaped ? "Press Esc again" : "Interrupt the job (Esc twice)"} {...(escaped ? { opened: true } : {})}>
                <Button className="stop" size="xs" variant="default" aria-label="Stop" leftSection={<Square size={12} fill="currentColor" />} onClick={() => client.interrupt(id)} data-testid="interrupt">
                  <span className="stoplabel">Stop</span>
                </Button>
              </Tooltip>
            ) : null}
            <ActionIcon type="submit" size={30} radius="md" variant="filled" disabled={!ready} aria-label="Send" data-testid="send">
              <ArrowUp size={17} />
            </ActionIcon>
          </Group>
        </Group>
      </Paper>
    </form>
  );
}

function ModePicker({ mode, modes, onPick }: { mode: string; modes: string[]; onPick: (mode: string) => void }) {
  return (
    <Menu position="top-start" withInitialFocusPlaceholder={false} shadow="md" width={300}>
      <Menu.Target>
        <Button size="xs" variant="subtle" color="gray" leftSection={<ShieldCheck size={14} />} rightSection={<ChevronDown size={13} />} data-testid="mode" data-mode={mode} aria-label={`Permission mode: ${modeWords(mode).label}`}>
          <span className="modelabel">{modeWords(mode).label}</span>
        </Button>
      </Menu.Target>
      <Menu.Dropdown>
        <Menu.Label>What may go ahead without being asked</Menu.Label>
        {modes.map((one) => (
          <Menu.Item key={one} onClick={() => onPick(one)} aria-current={one === mode} fw={one === mode ? 600 : 400}>
            {modeWords(one).label}
            <div style={{ fontSize: 12, opacity: 0.88, fontWeight: 400 }}>{modeWords(one).hint}</div>
          </Menu.Item>
        ))}
      </Menu.Dropdown>
    </Menu>
  );
}

/** Escape twice interrupts; true between the two presses. */
function useInterruptKey(id: string, running: boolean): boolean {
  const [escaped, setEscaped] = useState(false);
  useEffect(() => {
    if (!running) return;
    let last = 0;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const onKey = (event: KeyboardEvent): void => {
      if (event.key !== "Escape" || event.defaultPrevented || event.repeat) return;
      clearTimeout(timer);
      if (Date.now() - last < DOUBLE_MS) {
        last = 0;
        setEscaped(false);
        client.interrupt(id);
        return;
      }
      last = Date.now();
      setEscaped(true);
      timer = setTimeout(() => setEscaped(false), DOUBLE_MS);
    };
    window.addEventListener("keydown", onKey);
    return () => {
      clearTimeout(timer);
      setEscaped(false);
      window.removeEventListener("keydown", onKey);
    };
  }, [id, running]);
  return escaped;
}
