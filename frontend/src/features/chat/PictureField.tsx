import { ActionIcon, CloseButton, Text, Tooltip } from "@mantine/core";
import { ImagePlus } from "lucide-react";
import { useRef } from "react";
import { bytes } from "../../ui/words.ts";
import { ACCEPT } from "./pictures.ts";
import type { Pictures } from "./pictures.ts";

/** Opens the file dialog. */
export function PictureButton({ pictures }: { pictures: Pictures }) {
  const input = useRef<HTMLInputElement>(null);
  return (
    <>
      <input
        ref={input}
        type="file"
        accept={ACCEPT}
        multiple
        hidden
        aria-label="Pictures"
        data-testid="picture-input"
        onChange={(event) => {
          pictures.add([...(event.currentTarget.files ?? [])]);
          event.currentTarget.value = "";
        }}
      />
      <Tooltip label="Add pictures (or paste, or drop them)">
        <ActionIcon size={30} variant="subtle" color="gray" aria-label="Add pictures" onClick={() => input.current?.click()} data-testid="picture-add">
          <ImagePlus size={17} />
        </ActionIcon>
      </Tooltip>
    </>
  );
}

/** What goes with the prompt, and what does not and why. */
export function PictureStrip({ pictures, hint }: { pictures: Pictures; hint?: string | undefined }) {
  const { chosen, refused } = pictures;
  if (chosen.length === 0 && refused.length === 0) return null;
  return (
    <div className="pictures">
      {chosen.length > 0 ? (
        <ul>
          {chosen.map((one) => (
            <li key={one.id} data-testid="picture">
              <img src={one.url} alt={one.name} title={`${one.name}, ${bytes(one.size)}`} />
              <CloseButton size="xs" radius="xl" variant="default" aria-label={`Remove ${one.name}`} onClick={() => pictures.remove(one.id)} data-testid="picture-remove" />
            </li>
          ))}
        </ul>
      ) : null}
      {hint && chosen.length > 0 ? (
        <Text fz="xs" c="dimmed">
          {hint}
        </Text>
      ) : null}
      {refused.map((words) => (
        <Text key={words} fz="xs" c="red" role="alert" data-testid="picture-refused">
          {words}
        </Text>
      ))}
    </div>
  );
}
