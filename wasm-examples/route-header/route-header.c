/* route-header: routes by tenant header and path prefix.
 *
 *   - x-tenant names a tenant: "eu…" goes to pool 1, "us…" to pool 2, and the tenant
 *     becomes part of the key, so that tenants never share an object;
 *   - a tenant name that is not [a-z0-9-]{1,32} is refused with 400;
 *   - /internal/ is refused with 403, but for clients with a certificate;
 *   - /live/ is passed: neither looked up nor stored.
 *
 * Configuration: { "require_tenant" = 1 } refuses requests without a tenant.
 */
#include "edge.h"

EDGE_MANIFEST({"name" : "route-header", "hooks" : ["route"], "headers" : ["x-tenant"], "guards" : true});

enum { TENANT };

static u32 require_tenant;

i32 EDGE_EXPORT(edge_init)(u32 len) {
  require_tenant = edge_config_u32(len, S("\"require_tenant\""), 0);
  return 0;
}

static int tenant_ok(edge_str t) {
  if (t.n < 1 || t.n > 32) return 0;
  for (u32 i = 0; i < t.n; i++) {
    u8 c = t.p[i];
    if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-')) return 0;
  }
  return 1;
}

i64 EDGE_EXPORT(edge_on_route)(u32 len) {
  (void)len;
  const edge_head *h = edge_input();
  edge_str path = edge_path();
  if (edge_prefix(path, S("/internal/")) && !(h->flags & EDGE_CLIENT_CERT))
    return edge_deny(403, S("internal"));
  if (edge_prefix(path, S("/live/"))) return edge_result(EDGE_PASS, 0, 0);

  edge_str tenant = edge_get_header(TENANT);
  if (!tenant.p) {
    /* A cut block may have lost the header: do not guess. */
    if (require_tenant || h->flags & EDGE_TRUNCATED) return edge_deny(400, S("tenant required"));
    return edge_result(EDGE_DEFAULT, 0, 0);
  }
  if (!tenant_ok(tenant)) return edge_deny(400, S("bad tenant"));

  u32 pool = 0;
  if (edge_prefix(tenant, S("eu"))) pool = 1;
  if (edge_prefix(tenant, S("us"))) pool = 2;
  edge_records_begin();
  edge_key_addition(tenant);
  return edge_done(EDGE_OK, 0, pool);
}
