/** The files that a job made or changed: each to be downloaded, and all of them as a zip. */
import { Button, VisuallyHidden } from "@mantine/core";
import { Download, FileArchive } from "lucide-react";
import { useId, useState } from "react";
import type { EventOf } from "../../protocol/events.ts";
import { Exact } from "../../ui/Exact.tsx";
import { bytes, plural } from "../../ui/words.ts";
import { api } from "../../wiring.ts";

/** More are shown when asked for: a job may have made a thousand. */
const SHOWN = 8;

export function Artifacts({ files, job }: { files: readonly EventOf<"artifact">[]; job: string | undefined }) {
  const [all, setAll] = useState(false);
  const heading = useId();
  const shown = all ? files : files.slice(0, SHOWN);
  const hidden = files.length - shown.length;
  return (
    <section className="artifacts" data-testid="artifacts" aria-labelledby={heading}>
      <div className="artifacts-head">
        <h2 id={heading} className="label">
          {plural(files.length, "file")} made or changed
        </h2>
        {job && files.length > 1 ? (
          <Button
            component="a"
            href={api.artifactsUrl(job)}
            download
            size="compact-xs"
            variant="light"
            leftSection={<FileArchive size={13} aria-hidden />}
          >
            Download all as zip
          </Button>
        ) : null}
      </div>
      <ul>
        {shown.map((file) => (
          <li key={file.artifactId}>
            <File file={file} />
          </li>
        ))}
      </ul>
      {hidden > 0 ? (
        <Button variant="subtle" size="compact-sm" onClick={() => setAll(true)}>
          Show {plural(hidden, "more file")}
        </Button>
      ) : null}
    </section>
  );
}

function File({ file }: { file: EventOf<"artifact"> }) {
  const url = api.artifactUrl(file.url);
  const inside = (
    <>
      <Download size={14} aria-hidden />
      {url ? <VisuallyHidden>Download </VisuallyHidden> : null}
      <span className="artifact-name" dir="ltr">
        <Exact text={file.path} />
      </span>{" "}
      <span className="artifact-size">{bytes(file.size)}</span>
    </>
  );
  if (!url) return <span className="filebtn">{inside}</span>;
  return (
    <a className="filebtn" href={url} download>
      {inside}
    </a>
  );
}
