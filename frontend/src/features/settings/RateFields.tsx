import { SimpleGrid, Text, TextInput, UnstyledButton } from "@mantine/core";
import { ChevronDown, ChevronRight } from "lucide-react";
import { useEffect, useId, useRef } from "react";
import type { Rates } from "../../net/people.ts";
import { RATES, rateLabel, usualRate } from "./rates.ts";
import type { useRates } from "./rates.ts";

interface Props {
  /** What they are of. */
  what: "API key" | "key pair";
  rates: ReturnType<typeof useRates>;
  /** What counts for those that are left empty. */
  usual: Rates | undefined;
}

/** How often a key may, that is about to be made; folded away: most go as the server is configured. */
export function RateFields({ what, rates, usual }: Props) {
  const { typed, fault, open } = rates;
  const id = useId();
  const fields = useRef<HTMLDivElement>(null);
  useEffect(() => {
    if (fault) fields.current?.querySelector<HTMLElement>('[aria-invalid="true"]')?.focus();
  }, [fault]);
  const alone = fault?.fields.length === 1;
  const changed = RATES.filter((name) => typed[name].trim() !== "").length;
  const test = what === "API key" ? "key" : "pair";
  return (
    <div>
      <UnstyledButton className="foldbtn" ml={-8} mt={4} aria-expanded={open} aria-controls={id} onClick={() => rates.setOpen(!open)} data-testid={`${test}-rates`}>
        {open ? <ChevronDown size={14} aria-hidden="true" /> : <ChevronRight size={14} aria-hidden="true" />} How often it may
        {changed > 0 && !open ? <span className="quiet"> · {changed} set</span> : null}
      </UnstyledButton>
      <div id={id} ref={fields} hidden={!open} role="group" aria-label={`How often the ${what} may`}>
        <SimpleGrid cols={{ base: 1, xs: 3 }} spacing="sm" verticalSpacing="xs" mt={4}>
          {RATES.map((name) => (
            <TextInput
              key={name}
              size="xs"
              label={rateLabel(name)}
              placeholder={usualRate(name, usual)}
              inputMode={name === "ratePerS" ? "decimal" : "numeric"}
              autoComplete="off"
              value={typed[name]}
              error={fault?.fields.includes(name) ? (alone ? fault.words : true) : undefined}
              errorProps={{ role: "alert" }}
              onChange={(event) => rates.change(name, event.currentTarget.value)}
              data-testid={`${test}-${name}`}
            />
          ))}
        </SimpleGrid>
        {fault && !alone ? (
          <Text fz="xs" c="red" mt={6} role="alert">
            {fault.words}
          </Text>
        ) : null}
        <Text fz="xs" c="dimmed" mt={6}>
          Left empty: as the server is configured, shown in grey. 0 requests a second, or 0 jobs a day: no limit.
        </Text>
      </div>
    </div>
  );
}
