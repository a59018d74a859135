import { Alert, Button, Group, SegmentedControl, Text, Textarea } from "@mantine/core";
import { useMutation } from "@tanstack/react-query";
import { useState } from "react";
import type { Network, Policy } from "../../net/api.ts";
import { sayError } from "../../net/http.ts";
import { api } from "../../wiring.ts";
import { domainsOf, POLICIES } from "./words.ts";

/** Changes what the session reaches, at once. The server says what its person may. */
export function PolicyForm({ id, network, onDone }: { id: string; network: Network; onDone: () => void }) {
  const [policy, setPolicy] = useState<Policy>(network.policy);
  const [text, setText] = useState(network.domains.join("\n"));
  const saving = useMutation({
    mutationFn: () => {
      const domains = domainsOf(text);
      return api.changeEgress(id, { policy, ...(policy === "allow" && domains.length > 0 ? { domains } : {}) });
    },
    onSuccess: onDone,
  });
  return (
    <form className="netpolicy" aria-label="Policy" onSubmit={(event) => (event.preventDefault(), saving.mutate())}>
      <SegmentedControl
        size="xs"
        fullWidth
        aria-label="What the session reaches"
        value={policy}
        onChange={(value) => setPolicy(value)}
        data={(Object.keys(POLICIES) as Policy[]).map((value) => ({ value, label: POLICIES[value].label }))}
        data-testid="policy"
      />
      <Text fz="sm" c="dimmed">
        {POLICIES[policy].hint}
      </Text>
      {policy === "allow" ? (
        <Textarea
          size="xs"
          label="Domains"
          description="One a line: a name, *.name for all below it, name:port for another port. Empty: the configured ones."
          autosize
          minRows={3}
          maxRows={12}
          spellCheck={false}
          autoCapitalize="off"
          value={text}
          onChange={(event) => setText(event.currentTarget.value)}
          data-testid="domains"
        />
      ) : null}
      {saving.error ? (
        <Alert color="red" variant="light" role="alert">
          {sayError(saving.error)}
        </Alert>
      ) : null}
      <Group gap={8}>
        <Button type="submit" size="xs" loading={saving.isPending} data-testid="save-policy">
          Save
        </Button>
        <Button size="xs" variant="default" onClick={onDone}>
          Cancel
        </Button>
      </Group>
    </form>
  );
}
