//! `document`: whatever the octets, the loader answers, with a contract or with problems.

use super::{Target, specimen};

pub(crate) const TARGET: Target = Target { name: "document", run, seeds, words: WORDS };

fn run(data: &[u8]) {
    match specimen::compile(data) {
        Ok(contract) => {
            // What was compiled can be asked.
            for operation in contract.operations() {
                assert!(!operation.id().is_empty());
            }
        }
        Err(problems) => {
            assert!(!problems.is_empty(), "refused without a reason");
            for problem in &problems {
                let told = problem.to_string();
                assert!(told.len() < 64 << 10, "a message of {} octets", told.len());
            }
        }
    }
}

fn seeds() -> Vec<Vec<u8>> {
    DOCUMENTS.iter().map(|text| text.as_bytes().to_vec()).collect()
}

const DOCUMENTS: &[&str] = &[
    "{}",
    "openapi: 3.0.3\ninfo: {title: t, version: v}\npaths: {}\n",
    r#"{"openapi":"3.1.0","info":{"title":"t","version":"v"},"paths":{"/a/{b}":{"get":{"parameters":[{"name":"b","in":"path","required":true,"schema":{"type":"integer"}}],"responses":{"200":{"description":"d"}}}}}}"#,
    "openapi: 3.0.3
info: {title: t, version: v}
servers: [{url: 'https://a.test/{v}', variables: {v: {default: v1, enum: [v1, v2]}}}]
paths:
  /notes/{id}:
    parameters:
      - {name: id, in: path, required: true, schema: {type: integer, minimum: 1}}
      - {name: tag, in: query, style: form, explode: false, schema: {type: array, items: {type: string}}}
    post:
      operationId: note
      requestBody:
        required: true
        content:
          application/json: {schema: {$ref: '#/components/schemas/Note'}}
      responses:
        '200': {description: d, headers: {X-A: {schema: {type: string}}}, content: {application/json: {schema: {$ref: '#/components/schemas/Note'}}}}
        default: {description: d}
components:
  schemas:
    Note:
      type: object
      required: [text]
      additionalProperties: false
      properties:
        text: {type: string, pattern: '^[a-z]+$', maxLength: 9, nullable: true}
        replies: {type: array, items: {$ref: '#/components/schemas/Note'}}
        when: {type: string, format: date-time, readOnly: true}
",
    "openapi: 3.1.1
info: {title: t, version: v}
jsonSchemaDialect: https://json-schema.org/draft/2020-12/schema
paths:
  /a:
    put:
      requestBody:
        content:
          application/json:
            schema:
              $id: https://a.test/s
              $defs: {t: {$anchor: t, type: [string, 'null']}, u: {$dynamicAnchor: u}}
              properties: {a: {$ref: '#t'}, b: {$dynamicRef: '#u'}}
              unevaluatedProperties: false
              oneOf: [{required: [a]}, {const: {b: 1}}]
              if: {minProperties: 1}
              then: true
              else: false
      responses: {2XX: {description: d}}
webhooks: {}
",
    "a: &a [*a]\n",
    "a: &a [x, x, x]\nb: &b [*a, *a, *a]\nc: &c [*b, *b, *b]\nd: [*c, *c, *c]\n",
];

const WORDS: &[&str] = &[
    "$ref",
    "$id",
    "$anchor",
    "$dynamicRef",
    "$dynamicAnchor",
    "$defs",
    "$self",
    "#/components/schemas/",
    "openapi",
    "3.0.3",
    "3.1.1",
    "3.2.0",
    "paths",
    "servers",
    "variables",
    "parameters",
    "schema",
    "content",
    "application/json",
    "responses",
    "default",
    "headers",
    "requestBody",
    "required",
    "components",
    "schemas",
    "allOf",
    "oneOf",
    "anyOf",
    "not",
    "properties",
    "items",
    "prefixItems",
    "additionalProperties",
    "unevaluatedProperties",
    "discriminator",
    "mapping",
    "propertyName",
    "type",
    "format",
    "pattern",
    "enum",
    "const",
    "nullable",
    "style",
    "explode",
    "deepObject",
    "security",
    "securitySchemes",
    "query",
    "additionalOperations",
    "path",
    "cookie",
    "in",
    "name",
];
