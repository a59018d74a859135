import { SimpleGrid, TextInput, UnstyledButton } from "@mantine/core";
import { ChevronDown, ChevronRight } from "lucide-react";
import { useEffect, useId, useRef } from "react";
import type { Me } from "../../net/api.ts";
import { ASKED, nameWords, size, unitOf } from "./words.ts";
import type { Asked, Typed } from "./words.ts";

const EXAMPLES: Typed = { memory: "such as 2G", disk: "such as 20G", cpu: "such as 1.5", processes: "such as 256" };

interface Props {
  typed: Typed;
  faults: Partial<Typed>;
  defaults: Me["server"]["limits"];
  open: boolean;
  onOpen: (open: boolean) => void;
  onChange: (typed: Typed) => void;
}

/** Limits of a session that is about to be made, folded away: hardly anybody changes them. */
export function LimitFields({ typed, faults, defaults, open, onOpen, onChange }: Props) {
  const id = useId();
  const fields = useRef<HTMLDivElement>(null);
  const faulty = ASKED.filter((name) => faults[name]).join();
  useEffect(() => {
    if (faulty) fields.current?.querySelector<HTMLElement>('[aria-invalid="true"]')?.focus();
  }, [faulty, open]);
  const shown = (name: Asked): string => {
    const given = defaults?.[name];
    return given === undefined ? EXAMPLES[name] : unitOf(name) === "bytes" ? size(given) : given.toLocaleString("en");
  };
  const changed = ASKED.filter((name) => typed[name].trim() !== "").length;
  return (
    <div className="advanced">
      <UnstyledButton className="foldbtn" aria-expanded={open} aria-controls={id} onClick={() => onOpen(!open)} data-testid="advanced">
        {open ? <ChevronDown size={14} aria-hidden="true" /> : <ChevronRight size={14} aria-hidden="true" />} Advanced
        {changed > 0 && !open ? <span className="quiet"> · {changed} changed</span> : null}
      </UnstyledButton>
      <div id={id} ref={fields} hidden={!open} role="group" aria-label="Limits of the session">
        <SimpleGrid cols={{ base: 2, sm: 4 }} spacing="xs" verticalSpacing="xs" mt={8}>
          {ASKED.map((name) => (
            <TextInput
              key={name}
              size="xs"
              label={nameWords(name).label}
              placeholder={shown(name)}
              inputMode={unitOf(name) === "bytes" ? "text" : "decimal"}
              autoComplete="off"
              spellCheck={false}
              value={typed[name]}
              error={faults[name]}
              onChange={(event) => onChange({ ...typed, [name]: event.currentTarget.value })}
              data-testid={`limit-${name}`}
            />
          ))}
        </SimpleGrid>
        <p className="quiet">Limits of this session. Empty: as the server is configured.</p>
      </div>
    </div>
  );
}
