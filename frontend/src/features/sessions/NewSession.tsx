import { Alert, Button, Group, Kbd, Paper, SegmentedControl, Select, Stack, Text, Textarea, TextInput, Title } from "@mantine/core";
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { ArrowUp, FolderGit2 } from "lucide-react";
import { useEffect, useRef, useState } from "react";
import { go } from "../../model/route.ts";
import type { Me, NewSession as Body } from "../../net/api.ts";
import { sayError } from "../../net/http.ts";
import { LimitFields } from "../limits/LimitFields.tsx";
import { faultsOf, NOTHING, refusedField, wished } from "../limits/words.ts";
import { PictureButton, PictureStrip } from "../chat/PictureField.tsx";
import { usePictures } from "../chat/pictures.ts";
import { modeWords } from "../../ui/words.ts";
import { api, client } from "../../wiring.ts";

type SourceKind = "empty" | "git" | "dir";
const TITLE_MAX = 60;

const IDEAS = [
  "Write a small program that prints the first 20 primes, and run it.",
  "Find out why the tests fail and fix it.",
  "Make a plan first: a command-line to-do list in Python.",
];

/** What is wrong with the source, or nothing. The server decides in the end; this says it sooner. */
export function sourceFault(kind: SourceKind, where: string): string | undefined {
  if (kind === "git" && !/^https?:\/\/[^\s]+$/i.test(where)) return "A git URL begins with https://";
  if (kind === "dir" && !where.startsWith("/")) return "A directory on the server, from /";
  return undefined;
}

const titleOf = (prompt: string): string => {
  const line = prompt.trim().split("\n", 1)[0] ?? "";
  return line.length > TITLE_MAX ? `${line.slice(0, TITLE_MAX - 1).trimEnd()}…` : line;
};

export function NewSession({ me }: { me: Me }) {
  const { agents, defaultAgent, permissionModes, promptMax } = me.server;
  const queries = useQueryClient();
  // The page is for typing a prompt: the field is where the reader begins.
  const field = useRef<HTMLTextAreaElement>(null);
  useEffect(() => field.current?.focus(), []);
  const pictures = usePictures();
  const [prompt, setPrompt] = useState("");
  const [agent, setAgent] = useState(defaultAgent);
  const [mode, setMode] = useState(permissionModes[0] ?? "acceptEdits");
  const [kind, setKind] = useState<SourceKind>("empty");
  const [where, setWhere] = useState("");
  const [tried, setTried] = useState(false);
  const [limits, setLimits] = useState(NOTHING);
  const [advanced, setAdvanced] = useState(false);
  const fault = sourceFault(kind, where.trim());
  const tooLong = new TextEncoder().encode(prompt).length > promptMax;

  const making = useMutation({
    mutationFn: (asked: typeof limits) => {
      const body: Body = { agent, permissionMode: mode, title: titleOf(prompt) };
      if (kind === "git") body.source = { git: where.trim() };
      if (kind === "dir") body.source = { dir: where.trim() };
      const some = wished(asked);
      if (some) body.limits = some;
      return api.createSession(body);
    },
    onError: (error) => refusedField(sayError(error)) && setAdvanced(true),
    onSuccess: (session) => {
      void queries.invalidateQueries({ queryKey: ["sessions"] });
      client.prompt(session.id, prompt, { pictures: pictures.take() });
      go({ page: "session", id: session.id });
    },
  });
  const ready = prompt.trim() !== "" && !tooLong && !making.isPending;
  // A refusal stands at its field until that field is changed.
  const refused = making.error ? refusedField(sayError(making.error)) : undefined;
  const stale = refused && making.variables?.[refused.name] !== limits[refused.name];
  const typos = faultsOf(limits);
  const faults = { ...(refused && !stale ? { [refused.name]: refused.fault } : {}), ...(tried ? typos : {}) };
  const start = (): void => {
    setTried(true);
    if (!ready || fault !== undefined) return;
    if (Object.keys(typos).length > 0) setAdvanced(true);
    else making.mutate(limits);
  };

  return (
    <div className="newsession">
      <Stack gap="lg" w="100%" maw={720}>
        <Title order={1} fz={{ base: 22, sm: 28 }} ta="center">
          What should the agent do?
        </Title>
        <form onSubmit={(event) => (event.preventDefault(), start())}>
          <Paper withBorder radius="lg" shadow="sm" className="composerbox">
            <Textarea
              variant="unstyled"
              aria-label="Prompt"
              placeholder="Describe a task…"
              autosize
              minRows={4}
              maxRows={16}
              px="md"
              pt="xs"
              value={prompt}
              ref={field}
              onPaste={pictures.paste}
              onChange={(event) => setPrompt(event.currentTarget.value)}
              onKeyDown={(event) => {
                if (event.key === "Enter" && !event.shiftKey && !event.nativeEvent.isComposing) {
                event.preventDefault();
                start();
              }
              }}
              error={tooLong ? "This prompt is too long." : undefined}
              data-testid="composer"
            />
            <PictureStrip pictures={pictures} />
            <Group px="sm" pb="sm" gap="xs" wrap="nowrap">
              <PictureButton pictures={pictures} />
              {agents.length > 1 ? (
                <Select size="xs" w={{ base: 118, xs: 150 }} miw={0} flex="0 1 auto" aria-label="Agent" value={agent} allowDeselect={false} data={agents.map((one) => ({ value: one.id, label: one.label }))} onChange={(value) => value && setAgent(value)} data-testid="agent" />
              ) : null}
              <Select size="xs" w={{ base: 118, xs: 140 }} miw={0} flex="0 1 auto" aria-label="Permission mode" value={mode} allowDeselect={false} data={permissionModes.map((one) => ({ value: one, label: modeWords(one).label }))} onChange={(value) => value && setMode(value)} data-testid="mode" />
              <Button type="submit" ml="auto" flex="none" px="sm" radius="md" rightSection={<ArrowUp size={16} />} className="start" aria-label="Start" disabled={!ready} loading={making.isPending} data-testid="send">
                <span className="startlabel">Start</span>
              </Button>
            </Group>
          </Paper>
        </form>
        {making.error && !refused ? (
          <Alert color="red" variant="light" role="alert">
            {sayError(making.error)}
          </Alert>
        ) : null}
        <Group gap="sm" align="flex-start" justify="center">
          <SegmentedControl
            size="xs"
            aria-label="Workspace"
            value={kind}
            onChange={(value) => setKind(value)}
            data={[
              { value: "empty", label: "Empty workspace" },
              { value: "git", label: "Git repository" },
              { value: "dir", label: "Host directory" },
            ]}
          />
          {kind === "empty" ? null : (
            <TextInput size="xs" flex={1} miw={240} aria-label={kind === "git" ? "Git URL" : "Directory on the server"} placeholder={kind === "git" ? "https://github.com/owner/project.git" : "/home/you/project"} leftSection={<FolderGit2 size={14} />} value={where} onChange={(event) => setWhere(event.currentTarget.value)} error={tried ? fault : undefined} data-testid="source" />
          )}
        </Group>
        <LimitFields typed={limits} faults={faults} defaults={me.server.limits} open={advanced} onOpen={setAdvanced} onChange={setLimits} />
        <Text fz="xs" c="dimmed" ta="center">
          {modeWords(mode).hint} <span className="wide-only"><Kbd size="xs">Enter</Kbd> starts, <Kbd size="xs">Shift Enter</Kbd> is a new line.</span>
        </Text>
        <Group gap="xs" justify="center">
          {IDEAS.map((idea) => (
            <Button key={idea} variant="default" size="xs" radius="xl" fw={400} onClick={() => setPrompt(idea)} className="idea">
              {idea}
            </Button>
          ))}
        </Group>
      </Stack>
    </div>
  );
}
