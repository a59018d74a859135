/** Rates of a key that is about to be made: as they are typed, what is wrong with them, what is asked for. */
import { useState } from "react";
import type { Rates } from "../../net/people.ts";
import { refusal } from "../../ui/refusal.ts";
import type { Refusal } from "../../ui/refusal.ts";

export const RATES = ["ratePerS", "rateBurst", "quotaPerDay"] as const;
export type RateName = (typeof RATES)[number];
type Typed = Readonly<Record<RateName, string>>;
const NOTHING: Typed = { ratePerS: "", rateBurst: "", quotaPerDay: "" };

const LABELS: Readonly<Record<RateName, string>> = { ratePerS: "Requests a second", rateBurst: "Requests at once", quotaPerDay: "Jobs a day" };
export const rateLabel = (name: RateName): string => LABELS[name];

export function usualRate(name: RateName, usual: Rates | undefined): string {
  if (!usual) return "as configured";
  return usual[name] === 0 && name !== "rateBurst" ? "no limit" : usual[name].toLocaleString("en", { useGrouping: false, maximumFractionDigits: 6 });
}

/** The server knows the bounds and says them. */
const FORM: Readonly<Record<RateName, [form: RegExp, words: string]>> = {
  ratePerS: [/^\d{1,9}(\.\d{1,6})?$/, "A number such as 2.5"],
  rateBurst: [/^\d{1,12}$/, "A whole number"],
  quotaPerDay: [/^\d{1,12}$/, "A whole number"],
};
const wrong = (typed: Typed): Refusal<RateName> | undefined => {
  const name = RATES.find((one) => typed[one].trim() !== "" && !FORM[one][0].test(typed[one].trim()));
  return name && { fields: [name], words: FORM[name][1] };
};

export function useRates() {
  const [typed, setTyped] = useState(NOTHING);
  const [fault, setFault] = useState<Refusal<RateName>>();
  const [open, setOpen] = useState(false);
  const say = (found: Refusal<RateName> | undefined): void => {
    setFault(found);
    if (found) setOpen(true);
  };
  return {
    typed,
    fault,
    open,
    setOpen,
    /** A refusal stands at its field until that is changed. */
    change: (name: RateName, text: string): void => {
      setTyped((before) => ({ ...before, [name]: text }));
      setFault((before) => (before?.fields.includes(name) ? undefined : before));
    },
    /** Whether they can be asked for; if not it is said. */
    check: (): boolean => {
      const found = wrong(typed);
      say(found);
      return found === undefined;
    },
    refused: (error: unknown): void => say(refusal(error, RATES)),
    /** Of those that are typed. */
    wish: (): Partial<Rates> => Object.fromEntries(RATES.filter((name) => typed[name].trim() !== "").map((name) => [name, Number(typed[name])])),
    clear: (): void => setTyped(NOTHING),
  };
}

/** What went wrong and is said at no field. */
export const elsewhere = (error: unknown): unknown => (refusal(error, RATES) ? null : error);
