import { Button, NativeSelect, TextInput } from "@mantine/core";
import { useMutation } from "@tanstack/react-query";
import { useEffect, useId, useRef, useState } from "react";
import { useSessions } from "../../model/hooks.ts";
import type { GivenTo, Place, Secret } from "../../net/secrets.ts";
import { Fault } from "../../ui/Fault.tsx";
import { api } from "../../wiring.ts";
import { ValueField } from "./ValueField.tsx";
import { GIVEN, nameFault, projectFault, projectOf, refused, same } from "./words.ts";
import type { Field } from "./words.ts";

interface Props {
  /** Where it counts; left out: the account, or one of its projects, as is chosen. */
  place?: Place;
  /** A new value for this one. */
  replacing?: Secret;
  /** Those that are there. */
  items: readonly Secret[];
  /** Whether shells can have files here. */
  files: boolean;
  onTry?: () => void;
  onSet: (made: Secret) => unknown;
}
interface Wrong {
  field: Field;
  words: string;
}

export function SecretForm({ place, replacing, items, files, onTry, onSet }: Props) {
  const form = useRef<HTMLFormElement>(null);
  const held = useRef<string>(undefined);
  const [name, setName] = useState(replacing?.name ?? "");
  const [given, give] = useState<GivenTo>(replacing?.for ?? "shells");
  const [file, setFile] = useState(replacing?.file ?? false);
  const [project, setProject] = useState<string>();
  const [fault, setFault] = useState<Wrong>();
  const [round, setRound] = useState(0);
  const there: Place = place ?? (project === undefined ? { where: "account" } : { where: "project", project: projectOf(project) });
  const setting = useMutation({
    // It is no argument: those of a mutation are kept with it.
    mutationFn: () => api.setSecret(there, name, { value: held.current ?? typed(form.current), for: given, file: file && given === "shells" }),
    onError: (error) => setFault(refused(error)),
    onSuccess: async (made) => {
      setName("");
      held.current = undefined;
      setRound((before) => before + 1);
      await onSet(made);
    },
    gcTime: 0,
  });
  useEffect(() => {
    if (fault) form.current?.querySelector<HTMLElement>('[aria-invalid="true"]')?.focus();
  }, [fault]);
  /** A refusal stands at its field until that is changed. */
  const touched = (field: Field): void => setFault((before) => (before?.field === field ? undefined : before));
  const set = (): void => {
    const taken = !replacing && items.some((one) => same(one, name, there)) ? `${name} is set already; replace it below.` : undefined;
    const wrong: Record<"name" | "project", string | undefined> = { name: nameFault(name) ?? taken, project: project === undefined ? undefined : projectFault(project) };
    const field = wrong.name ? "name" : "project";
    const words = wrong[field];
    setFault(words === undefined ? undefined : { field, words });
    onTry?.();
    if (words === undefined) setting.mutate();
  };
  const at = (field: Field) => ({ size: "xs", error: fault?.field === field ? fault.words : undefined, errorProps: { role: "alert" } }) as const;
  return (
    <form ref={form} className="secretform" onSubmit={(event) => (event.preventDefault(), set())} aria-label={replacing ? `Replace ${replacing.name}` : "Set a secret"} autoComplete="off">
      {replacing ? null : (
        <TextInput {...at("name")} label="Name" placeholder="NPM_TOKEN" value={name} maxLength={200} autoComplete="off" autoCapitalize="characters" spellCheck={false} onChange={(event) => (setName(event.currentTarget.value.trim()), touched("name"))} data-testid="secret-name" />
      )}
      <ValueField key={round} label={replacing ? "New value" : "Value"} first={replacing !== undefined} fault={fault?.field === "value" ? fault.words : undefined} onHold={(text) => (held.current = text)} onChange={() => touched("value")} onFault={(words) => setFault({ field: "value", words })} />
      <NativeSelect {...at("for")} label="Given to" data={GIVEN} value={given} onChange={(event) => (give(event.currentTarget.value as GivenTo), touched("for"))} data-testid="secret-for" />
      <NativeSelect
        {...at("file")}
        label="As"
        description={file && given === "shells" ? `Its path is in ${name || "NAME"}_FILE.` : undefined}
        data={[
          { value: "", label: "Environment" },
          { value: "file", label: given === "shells" ? "File" : "File (shells only)", disabled: !files || given !== "shells" },
        ]}
        value={file && given === "shells" ? "file" : ""}
        inputWrapperOrder={["label", "input", "description", "error"]}
        onChange={(event) => (setFile(event.currentTarget.value !== ""), touched("file"))}
        data-testid="secret-as"
      />
      {place ? null : (
        <NativeSelect
          size="xs"
          label="Counts in"
          data={[
            { value: "", label: "All your sessions" },
            { value: "project", label: "Those of a project" },
          ]}
          value={project === undefined ? "" : "project"}
          onChange={(event) => (setProject(event.currentTarget.value ? "" : undefined), touched("project"))}
          data-testid="secret-where"
        />
      )}
      {project === undefined ? null : <ProjectField {...at("project")} value={project} onChange={(text) => (setProject(text), touched("project"))} />}
      <Button type="submit" size="xs" loading={setting.isPending} data-testid="secret-set">
        {replacing ? "Replace" : "Set"}
      </Button>
      {setting.error && !refused(setting.error) ? (
        <div className="wholeline">
          <Fault error={setting.error} />
        </div>
      ) : null}
    </form>
  );
}

const typed = (form: HTMLFormElement | null): string => {
  const field = form?.elements.namedItem("value");
  return field instanceof HTMLInputElement ? field.value : "";
};

interface ProjectProps {
  size: "xs";
  error: string | undefined;
  errorProps: { role: "alert" };
  value: string;
  onChange: (text: string) => void;
}

/** What one's sessions were made from is offered. */
function ProjectField({ value, onChange, ...rest }: ProjectProps) {
  const id = useId();
  const sources = (useSessions().data ?? []).map(({ source }) => source?.git ?? source?.dir ?? "");
  const known = [...new Set(sources.filter((one) => one !== ""))];
  return (
    <>
      <TextInput {...rest} className="wholeline" label="Git URL or directory on the server" placeholder="https://github.com/owner/project.git" list={id} value={value} maxLength={4096} autoComplete="off" autoCapitalize="none" spellCheck={false} onChange={(event) => onChange(event.currentTarget.value)} data-testid="secret-project" />
      <datalist id={id}>
        {known.map((one) => (
          <option key={one} value={one} />
        ))}
      </datalist>
    </>
  );
}
