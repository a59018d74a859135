import { Anchor, Button, Drawer, Group, Loader, ScrollArea, Text, UnstyledButton } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { ChevronDown, ChevronRight, CircleHelp, Download, File, Folder, Link2, RefreshCw } from "lucide-react";
import { useState } from "react";
import type { FileEntry } from "../../net/api.ts";
import { sayError } from "../../net/http.ts";
import { Exact } from "../../ui/Exact.tsx";
import { bytes } from "../../ui/words.ts";
import { api, queries } from "../../wiring.ts";

/** While a job runs the tree is asked for again at this pace. */
const REFRESH_MS = 4_000;

export function Files({ id, running, onClose }: { id: string; running: boolean; onClose: () => void }) {
  return (
    <Drawer opened onClose={onClose} position="right" title="Files" size="md" closeButtonProps={{ "aria-label": "Close the files" }} data-testid="files-panel">
      <Group justify="space-between" mb="sm">
        <Button component="a" href={api.zipUrl(id)} download size="xs" variant="light" leftSection={<Download size={14} />} data-testid="download-zip">
          Download all (zip)
        </Button>
        <Button size="xs" variant="subtle" color="gray" leftSection={<RefreshCw size={14} />} onClick={() => void queries.invalidateQueries({ queryKey: ["files", id] })}>
          Refresh
        </Button>
      </Group>
      <ScrollArea.Autosize mah="calc(100dvh - 140px)">
        <Directory id={id} path="" running={running} />
      </ScrollArea.Autosize>
    </Drawer>
  );
}

function Directory({ id, path, running }: { id: string; path: string; running: boolean }) {
  const { data, error, isPending } = useQuery({
    queryKey: ["files", id, path],
    queryFn: () => api.files(id, path),
    refetchInterval: running ? REFRESH_MS : false,
  });
  if (isPending)
    return (
      <Group gap={8} p={8} fz="sm" c="dimmed">
        <Loader size={14} /> Reading…
      </Group>
    );
  if (error)
    return (
      <Text fz="sm" c="red" role="alert" p={8}>
        {sayError(error)}
      </Text>
    );
  if (data.entries.length === 0)
    return (
      <Text fz="sm" c="dimmed" p={8}>
        Empty
      </Text>
    );
  return (
    <ul className="filetree">
      {data.entries.map((entry) => (
        <li key={entry.name}>
          <Entry id={id} entry={entry} path={path === "" ? entry.name : `${path}/${entry.name}`} running={running} />
        </li>
      ))}
    </ul>
  );
}

function Entry({ id, entry, path, running }: { id: string; entry: FileEntry; path: string; running: boolean }) {
  const [open, setOpen] = useState(false);
  if (entry.kind === "directory")
    return (
      <>
        <UnstyledButton className="filebtn" aria-expanded={open} onClick={() => setOpen(!open)} data-testid="folder-row" data-path={path}>
          {open ? <ChevronDown size={14} /> : <ChevronRight size={14} />}
          <Folder size={15} aria-label="Folder" />
          <span className="ellipsis"><Exact text={entry.name} /></span>
        </UnstyledButton>
        {open ? <Directory id={id} path={path} running={running} /> : null}
      </>
    );
  if (entry.kind !== "file") {
    const Icon = entry.kind === "link" ? Link2 : CircleHelp;
    return (
      <span className="filebtn" data-testid="file-row" data-path={path}>
        <span style={{ width: 14 }} />
        <Icon size={15} aria-label={entry.kind === "link" ? "Link" : "Special file"} />
        <span className="ellipsis"><Exact text={entry.name} /></span>
      </span>
    );
  }
  return (
    <Anchor href={api.fileUrl(id, path)} download={entry.name} underline="never" className="filebtn" data-testid="download" data-path={path}>
      <span style={{ width: 14 }} />
      <File size={15} aria-label="File" style={{ flex: "none" }} />
      <span className="ellipsis" style={{ flex: 1 }}><Exact text={entry.name} /></span>
      <Text span fz="xs" c="dimmed" style={{ whiteSpace: "nowrap" }}>
        {bytes(entry.size)}
      </Text>
      <Download size={14} aria-label="Download" style={{ flex: "none" }} />
    </Anchor>
  );
}
