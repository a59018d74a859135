/** Pictures that go with a prompt: what is taken, what is refused and why, until they are sent. */
import { useCallback, useEffect, useRef, useState } from "react";
import type { Picture } from "../../model/store.ts";
import { bytes } from "../../ui/words.ts";

/** What models take, and how each begins: the server looks too. */
const KINDS: Record<string, readonly number[]> = {
  "image/png": [0x89, 0x50, 0x4e, 0x47],
  "image/jpeg": [0xff, 0xd8, 0xff],
  "image/gif": [0x47, 0x49, 0x46, 0x38],
  "image/webp": [0x52, 0x49, 0x46, 0x46],
};
export const ACCEPT = Object.keys(KINDS).join(",");
/** In all: base64 makes it a third more, and a request may have 4 MiB with the prompt in it. */
export const BYTES_MAX = 2 * 1024 * 1024;
const COUNT_MAX = 20;
const NAME_MAX = 100;

/** A picture in the composer: `url` shows it until it is sent. */
export interface Chosen extends Picture {
  id: string;
  url: string;
}

export interface Candidate {
  name: string;
  type: string;
  size: number;
  /** Its bytes, or none when its size alone refuses it. */
  data: Uint8Array;
}

/** Why a file cannot go with the prompt, or nothing. */
export function faultOf(file: Candidate, already: readonly { size: number }[]): string | undefined {
  const name = `“${file.name.slice(0, NAME_MAX)}”`;
  const begins = KINDS[file.type];
  if (!begins) return `${name} is no picture that models take: PNG, JPEG, GIF or WebP.`;
  if (file.size === 0) return `${name} is empty.`;
  const sum = already.reduce((all, one) => all + one.size, file.size);
  if (sum > BYTES_MAX) return `${name} is too big (${bytes(file.size)}): all pictures of a prompt may have ${bytes(BYTES_MAX)}.`;
  if (begins.some((byte, i) => file.data[i] !== byte)) return `${name} is not what its name says.`;
  if (already.length >= COUNT_MAX) return `${name} is one too many: at most ${COUNT_MAX} pictures.`;
  return undefined;
}

const CHUNK = 0x8000;
export function base64(data: Uint8Array): string {
  let text = "";
  for (let i = 0; i < data.length; i += CHUNK) text += String.fromCharCode(...data.subarray(i, i + CHUNK));
  return btoa(text);
}

async function read(file: File): Promise<Candidate> {
  const data = file.size > BYTES_MAX ? new Uint8Array() : new Uint8Array(await file.arrayBuffer());
  return { name: file.name || "picture", type: file.type, size: file.size, data };
}

const filesOf = (data: DataTransfer | null): File[] => [...(data?.files ?? [])];

export interface Pictures {
  chosen: readonly Chosen[];
  refused: readonly string[];
  add: (files: readonly File[]) => void;
  remove: (id: string) => void;
  /** Empties the field; the answer is what was in it. */
  take: () => Picture[];
  /** For the field's `onPaste`. */
  paste: (event: { clipboardData: DataTransfer; preventDefault: () => void }) => void;
}

export function usePictures(): Pictures {
  const [chosen, setChosen] = useState<readonly Chosen[]>([]);
  const [refused, setRefused] = useState<readonly string[]>([]);
  const kept = useRef<readonly Chosen[]>([]);
  const keep = useCallback((next: readonly Chosen[]) => {
    for (const one of kept.current) if (!next.includes(one)) URL.revokeObjectURL(one.url);
    kept.current = next;
    setChosen(next);
  }, []);
  const add = useCallback(
    (files: readonly File[]) => {
      void Promise.all(files.map(read)).then((candidates) => {
        const faults: string[] = [];
        let next = kept.current;
        for (const one of candidates) {
          const fault = faultOf(one, next);
          if (fault) faults.push(fault);
          else next = [...next, chosenOf(one)];
        }
        keep(next);
        setRefused(faults);
      });
    },
    [keep],
  );
  useDrop(add);
  useEffect(() => () => kept.current.forEach((one) => URL.revokeObjectURL(one.url)), []);
  const remove = (id: string): void => (keep(chosen.filter((one) => one.id !== id)), setRefused([]));
  const take = (): Picture[] => {
    keep([]);
    setRefused([]);
    return chosen.map(({ name, mediaType, size, data }) => ({ name, mediaType, size, data }));
  };
  const paste: Pictures["paste"] = (event) => {
    const files = filesOf(event.clipboardData);
    if (files.length === 0) return;
    event.preventDefault();
    add(files);
  };
  return { chosen, refused, add, remove, take, paste };
}

function chosenOf(one: Candidate): Chosen {
  const blob = new Blob([one.data as Uint8Array<ArrayBuffer>], { type: one.type });
  return { id: crypto.randomUUID(), name: one.name.slice(0, NAME_MAX), mediaType: one.type, size: one.data.length, data: base64(one.data), url: URL.createObjectURL(blob) };
}

/** A file dropped anywhere is meant for the prompt; without this the browser would leave the page and open it. */
function useDrop(add: (files: readonly File[]) => void): void {
  useEffect(() => {
    const over = (event: DragEvent): void => {
      if (event.dataTransfer?.types.includes("Files")) event.preventDefault();
    };
    const drop = (event: DragEvent): void => {
      const files = filesOf(event.dataTransfer);
      if (files.length === 0) return;
      event.preventDefault();
      add(files);
    };
    window.addEventListener("dragover", over);
    window.addEventListener("drop", drop);
    return () => {
      window.removeEventListener("dragover", over);
      window.removeEventListener("drop", drop);
    };
  }, [add]);
}
