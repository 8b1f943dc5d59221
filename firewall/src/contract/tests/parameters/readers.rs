//! Names and pairs that other readers take for something else than this one does.

use super::*;

/// PHP, Rails, qs and ASP.NET each read some other names as a parameter's own.
#[test]
fn names_that_some_readers_take_for_a_declared_one() {
    let number = json!({"type": "integer"});
    let declared = json!([
        {"name": "user_id", "in": "query", "schema": number},
        {"name": "l[]", "in": "query", "schema": {"type": "array", "items": number}},
        {"name": "p", "in": "query", "style": "deepObject", "schema": object(&json!({"a": number}))},
    ]);
    let aliases = [
        "user_id[]",
        "user_id[x]",
        "user.id",
        "user+id",
        "+user_id",
        "user[id",
        "USER_ID",
        "l",
        "L[]",
        "l[0]",
        "p",
        "P[a]",
        "p[a][b]",
    ];
    let open = Policy { undeclared_query: Verdict::Pass, ..Policy::default() };
    let passing = with(open, &declared);
    // An open object takes whatever no parameter has.
    let mut with_rest = declared.clone();
    let rest = json!({"name": "rest", "in": "query", "schema": {"type": "object", "additionalProperties": true}});
    with_rest.as_array_mut().unwrap().push(rest);
    let with_rest = with(Policy::default(), &with_rest);
    for contract in [&passing, &with_rest] {
        for name in aliases {
            let expected = Err("unknown query:*".to_owned());
            assert_eq!(verdict(contract, &format!("{name}=x"), &[]), expected, "{name}");
        }
        for name in ["user", "id", "userid", "other", "x[y]", "user_id2"] {
            assert!(verdict(contract, &format!("{name}=x"), &[]).is_ok(), "{name}");
        }
        assert_eq!(verdict(contract, "user_id=1&l[]=2", &[]), Ok("user_id=1&l%5B%5D=2".to_owned()));
    }
    let contract =
        with(Policy::default(), &json!([{"name": "n.m", "in": "cookie", "schema": number}]));
    cookies(
        &contract,
        &[
            (&["n.m=1; N.M=x; n=2"], Ok(())),
            (&["n.m=1; n.m[]=x"], Err("unknown cookie:*")),
            (&["n_m=x"], Err("unknown cookie:*")),
        ],
    );
}

/// Some readers end a pair of a query at a semicolon, others a cookie at a comma.
#[test]
fn what_ends_a_pair_for_some_readers_hides_nothing() {
    let number = json!({"type": "integer"});
    let contract = with(
        Policy::default(),
        &json!([
            {"name": "s", "in": "query", "schema": {"type": "string"}},
            {"name": "n", "in": "cookie", "schema": number},
        ]),
    );
    queries(
        &contract,
        &[("s=1;admin=true", Ok("s=1%3Badmin=true")), (";s=1", Err("unknown query:*"))],
    );
    cookies(
        &contract,
        &[
            (&["a=b,c=d,e"], Ok(())),
            (&["a=b,n=x"], Err("encoding cookie:*")),
            (&["n=1; a=b, n =x"], Err("encoding cookie:*")),
            (&["a=\"\\\"; n=1"], Err("encoding cookie:*")),
        ],
    );
}
